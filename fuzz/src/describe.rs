//! The methods of the protocols, read from their descriptors, so that a new one is fuzzed from the
//! day it is there; and messages of any type, composed from bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::WireType;
use prost::encoding::{encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The protocol of `capsule`.
pub static CAPSULE: LazyLock<Protocol> = LazyLock::new(|| Protocol::new(capsule_proto::V1_FILES));
/// The protocol of the SDK.
pub static SDK: LazyLock<Protocol> = LazyLock::new(|| Protocol::new(capsule_proto::SDK_FILES));

/// How deep composed messages go.
const DEEPEST: u32 = 6;
/// Strings that handlers know.
const STRINGS: [&str; 37] = [
    "",
    "1",
    "2",
    "@last",
    "@failed",
    "leads",
    "sync_leads",
    "rebuild_index",
    "hourly_sync",
    "acme",
    "owner:acme",
    "default",
    "*",
    "sync*",
    "5m",
    "exponential:1s..5m",
    "*/5 * * * *",
    "/tmp",
    "/bin/true",
    "{}",
    r#"{"owner_id":"acme"}"#,
    r#"{"owner_id":{"$in":["acme",1]}}"#,
    "[]",
    "null",
    "app.py:app",
    "[app]\nname = \"mail\"\n[tasks.send]\ncommand = [\"true\"]\n",
    "str",
    "\u{202e}\u{0}",
    "sess_1",
    "01890000-0000-7000-8000-000000000001",
    "API_KEY",
    "../../etc",
    r#"{"$or":[{"n":{"$gte":1,"$exists":true}},{"owner_id":{"$regex":"^a","$options":"i"}}]}"#,
    r#"{"$set":{"a.b":1},"$inc":{"n":1},"$push":{"l":{"$each":[1,null]}},"$unset":{"x":""}}"#,
    r#"{"n":1,"owner_id":"acme","a":{"b":[{"c":null}]}}"#,
    r#"{"n":-1}"#,
    "things",
];
/// Numbers that handlers take for something special.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    3,
    10,
    1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1_700_000_000_000_000,
    1 << 63,
    u64::MAX,
];

/// One method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// `Service/Method`.
    pub name: String,
    /// As in a request's address: `/package.Service/Method`.
    pub path: String,
    /// Its answer is a stream.
    pub streams: bool,
    input: String,
}

/// The methods and messages of a protocol.
#[derive(Debug)]
pub struct Protocol {
    /// In the order of the files.
    pub methods: Vec<Method>,
    messages: HashMap<String, DescriptorProto>,
}

impl Protocol {
    fn new(files: &[u8]) -> Self {
        let files = FileDescriptorSet::decode(files).unwrap();
        let mut protocol = Self { methods: Vec::new(), messages: HashMap::new() };
        for file in &files.file {
            let package = file.package();
            for message in &file.message_type {
                protocol.learn(&format!(".{package}"), message);
            }
            for service in &file.service {
                protocol.methods.extend(service.method.iter().map(|method| Method {
                    name: format!("{}/{}", service.name(), method.name()),
                    path: format!("/{package}.{}/{}", service.name(), method.name()),
                    streams: method.server_streaming(),
                    input: method.input_type().to_owned(),
                }));
            }
        }
        protocol
    }

    fn learn(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        for nested in &message.nested_type {
            self.learn(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// The method that an input means: by its name, else by what stands there.
    pub fn method(&self, name: &[u8]) -> &Method {
        let known = self.methods.iter().find(|method| method.name.as_bytes() == name);
        let place = usize::try_from(crc32fast::hash(name)).unwrap_or(0) % self.methods.len();
        known.unwrap_or_else(|| &self.methods[place])
    }

    /// A request of this method with fields as these bytes have it: each is of its type.
    pub fn compose(&self, method: &Method, mut bytes: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        self.fill(&method.input, &mut bytes, &mut request, 0);
        request
    }

    fn fill(&self, message: &str, bytes: &mut &[u8], into: &mut Vec<u8>, depth: u32) {
        let Some(message) = self.messages.get(message).filter(|_| depth < DEEPEST) else { return };
        for field in &message.field {
            let dice = byte(bytes);
            let times = match (dice % 4, field.label()) {
                (0, _) => 0,
                (3, Label::Repeated) => 3,
                _ => 1,
            };
            for _ in 0..times {
                self.field(field, bytes, into, depth);
            }
        }
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        bytes: &mut &[u8],
        into: &mut Vec<u8>,
        depth: u32,
    ) {
        let tag = u32::try_from(field.number()).unwrap();
        let mut varint = |number: u64| {
            encode_key(tag, WireType::Varint, into);
            encode_varint(number, into);
        };
        match field.r#type() {
            Type::Bool => varint((byte(bytes) & 1).into()),
            Type::Enum => varint((byte(bytes) % 12).into()),
            Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Sint32
            | Type::Sint64 => {
                varint(number(bytes));
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                encode_key(tag, WireType::SixtyFourBit, into);
                into.extend_from_slice(&number(bytes).to_le_bytes());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                encode_key(tag, WireType::ThirtyTwoBit, into);
                into.extend_from_slice(&number(bytes).to_le_bytes()[..4]);
            }
            Type::String | Type::Bytes => piece(tag, text(bytes).as_bytes(), into),
            Type::Message | Type::Group => {
                let mut inner = Vec::new();
                self.fill(field.type_name(), bytes, &mut inner, depth + 1);
                piece(tag, &inner, into);
            }
        }
    }
}

fn piece(tag: u32, bytes: &[u8], into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

/// The next byte; 0 when none is left, which sets no more fields.
fn byte(bytes: &mut &[u8]) -> u8 {
    let Some((first, rest)) = bytes.split_first() else { return 0 };
    *bytes = rest;
    *first
}

fn number(bytes: &mut &[u8]) -> u64 {
    let first = byte(bytes);
    match NUMBERS.get(usize::from(first)) {
        Some(known) => *known,
        None if first < 128 => first.into(),
        None => (0..8).fold(0, |number, _| number << 8 | u64::from(byte(bytes))),
    }
}

fn text(bytes: &mut &[u8]) -> String {
    let first = usize::from(byte(bytes));
    if let Some(known) = STRINGS.get(first) {
        return (*known).to_owned();
    }
    let (own, rest) = bytes.split_at((first - STRINGS.len()).min(bytes.len()));
    *bytes = rest;
    String::from_utf8_lossy(own).into_owned()
}
