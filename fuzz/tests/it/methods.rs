//! Every method that the protocols have is fuzzed, and none is forgotten by the daemon.

use capsule_fuzz::describe::{CAPSULE, Protocol, SDK};
use capsule_fuzz::mutate::Dice;
use capsule_fuzz::targets::rpc::answered;
use tonic::Code;

/// Asks each method for everything its type allows, by a fixed seed.
fn asked(protocol: &Protocol, rounds: usize) -> Vec<(String, usize)> {
    let mut dice = Dice::new(5);
    let mut good = Vec::new();
    for method in &protocol.methods {
        let mut answers = 0;
        for round in 0..rounds {
            let mut data = format!("{}*\n", method.name).into_bytes();
            // The first request is empty: all fields have their defaults.
            data.extend((0..round * 16).map(|_| dice.byte()));
            let answer = answered(protocol, &data);
            assert_ne!(answer, Err(Code::Unimplemented), "{} is not served", method.name);
            answers += usize::from(answer.is_ok());
        }
        good.push((method.name.clone(), answers));
    }
    good
}

#[test]
fn every_method_of_capsule_is_served_whatever_it_is_asked() {
    let good = asked(&CAPSULE, 12);
    assert!(good.len() >= 39, "the descriptors lack methods");
    println!("answers without an error: {good:?}");
}

#[test]
fn every_method_of_the_sdk_is_served_whatever_it_is_asked() {
    let good = asked(&SDK, 12);
    println!("answers without an error: {good:?}");
}
