#!/bin/sh
# A program that does not end, ignores every polite request and hides its children in sessions of
# their own. Only a kill of the whole tree ends it.
trap '' TERM INT HUP
for child in 1 2 3; do
    setsid sh -c 'trap "" TERM INT HUP; (while :; do sleep 1000; done) & sleep 1000' &
done
echo "running away with three children, each in a session of its own"
while :; do sleep 1000; done
