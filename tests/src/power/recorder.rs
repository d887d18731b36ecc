//! What a program writes below one folder, recorded by a library that is loaded into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file was made.
    Create { file: u64, path: String },
    /// A folder was made.
    Folder { folder: u64, path: String },
    /// Bytes were written.
    Write { file: u64, offset: u64, bytes: Vec<u8> },
    /// A file was given a size.
    Size { file: u64, size: u64 },
    /// Somebody began to wait until a file or folder is on disk.
    Sync { token: u64, what: u64 },
    /// That wait ended well.
    Synced { token: u64 },
    /// A file or folder got another name.
    Rename { from: String, to: String },
    /// A file or folder lost its name.
    Remove { path: String },
    /// Somebody knows something from now on.
    Mark(Vec<u8>),
}

const HEAD: usize = 21;
const MARK: u8 = 10;

impl Op {
    fn parse(kind: u8, one: u64, two: u64, rest: Vec<u8>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match kind {
            1 => Self::Create { file: one, path: text(&rest) },
            2 => Self::Folder { folder: one, path: text(&rest) },
            3 => Self::Write { file: one, offset: two, bytes: rest },
            4 => Self::Size { file: one, size: two },
            5 => Self::Sync { token: one, what: two },
            6 => Self::Synced { token: one },
            7 => {
                let cut = rest.iter().position(|byte| *byte == 0).unwrap();
                Self::Rename { from: text(&rest[..cut]), to: text(&rest[cut + 1..]) }
            }
            8 | 9 => Self::Remove { path: text(&rest) },
            MARK => Self::Mark(rest),
            other => panic!("a record of kind {other}"),
        }
    }
}

/// A recording: the folder that is watched and the file with the records.
#[derive(Debug)]
pub struct Recorder {
    library: PathBuf,
    root: PathBuf,
    records: PathBuf,
}

impl Recorder {
    /// Watches `root`, an empty folder; keeps what it needs in `place`, outside of `root`. `None`
    /// where there is no C compiler, which is said out loud.
    ///
    /// # Panics
    /// The library cannot be compiled.
    pub fn new(root: &Path, place: &Path) -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/record.c");
        let library = place.join("record.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output();
        match compiled {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: writes cannot be recorded, there is no cc");
                return None;
            }
            output => {
                let output = output.unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "the recorder is not compiled: {said}");
            }
        }
        let records = place.join("records");
        File::create(&records).unwrap();
        Some(Self { library, root: fs::canonicalize(root).unwrap(), records })
    }

    /// What a program needs in its environment to be recorded.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("CAPSULE_TRACE_ROOT", self.root.display().to_string()),
            ("CAPSULE_TRACE_FILE", self.records.display().to_string()),
        ]
    }

    /// The folder that is watched.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file with the records.
    pub fn path(&self) -> &Path {
        &self.records
    }

    /// The records so far, from the first.
    ///
    /// # Panics
    /// They cannot be read.
    pub fn read(&self) -> Records {
        Records(BufReader::with_capacity(1 << 20, File::open(&self.records).unwrap()))
    }
}

/// Notes that somebody knows something now.
///
/// A mark is made after the fact: after an answer has arrived, or before a question is sent. An answer
/// that is noted late counts as no answer in the states between, and a question that is noted early
/// counts as asked in them, so a mark out of time can hide a loss for a moment, but never invent one.
///
/// # Panics
/// It cannot be written.
pub fn mark(records: &Path, bytes: &[u8]) {
    let mut record = vec![MARK];
    record.extend_from_slice(&[0; 16]);
    record.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    record.extend_from_slice(bytes);
    OpenOptions::new().append(true).open(records).unwrap().write_all(&record).unwrap();
}

/// Records in the order in which they were made.
#[derive(Debug)]
pub struct Records(BufReader<File>);

impl Iterator for Records {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        let mut head = [0; HEAD];
        match self.0.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            read => read.unwrap(),
        }
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let length = u32::from_le_bytes(head[17..].try_into().unwrap());
        let mut rest = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut rest).unwrap();
        Some(Op::parse(head[0], number(1), number(9), rest))
    }
}
