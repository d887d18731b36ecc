//! Generated.
pub mod v1 {
    tonic::include_proto!("capsule.v1");
}
