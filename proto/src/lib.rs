//! The generated code of `capsule.v1`, the protocol between `capsule` and `capsuled`, and of the
//! SDK's own services.
//!
//! Additive only: a field number is never used again for something else.

pub mod query;

/// Messages, clients and servers of package `capsule.v1`.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::empty_structs_with_brackets,
    unused_qualifications,
    reason = "generated code follows the generator's rules"
)]
pub mod v1 {
    tonic::include_proto!("capsule.v1");
}

/// Messages and clients of the SDK's package `capsule`.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::empty_structs_with_brackets,
    unused_qualifications,
    reason = "generated code follows the generator's rules"
)]
pub mod sdk {
    tonic::include_proto!("capsule");
}

/// The files of `capsule.v1`, as a `google.protobuf.FileDescriptorSet`: for tests that must know every
/// method there is.
pub const V1_FILES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/v1.bin"));
/// The files of the SDK's package, in the same form.
pub const SDK_FILES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sdk.bin"));

/// The version of the protocol that this crate describes: a daemon and a client with the same
/// major number understand each other.
pub const API_MAJOR: u32 = 1;
/// Rises with every addition.
pub const API_MINOR: u32 = 1;
