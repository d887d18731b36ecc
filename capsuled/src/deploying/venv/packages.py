"""Prints, as JSON, the packages that an app's Image names, without running the app."""

import ast
import json
import os
import sys


def words(node, folder):
    """The texts of a list, or the lines of the requirements file that a text names."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return []
    if isinstance(value, str):
        try:
            with open(os.path.join(folder, value), encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except OSError:
            return []
        return [line for line in lines if line and line[0] not in "#-"]
    return [word for word in value if isinstance(word, str)] if isinstance(value, (list, tuple)) else []


def packages(path):
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = [kw.value for kw in call.keywords if kw.arg in ("python_packages", "packages")]
        if name == "add_python_packages":
            given += call.args[:1]
        if name in ("Image", "add_python_packages"):
            for node in given:
                found += words(node, os.getcwd())
    return found


try:
    known = packages(sys.argv[1])
except (OSError, SyntaxError, ValueError):
    # Importing it says what is wrong, with its line.
    known = []
with open(sys.argv[2], "w", encoding="utf-8") as result:
    json.dump(known, result)
