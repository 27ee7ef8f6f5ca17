//! Any one byte, anywhere in a signed bundle, changes the answer.

use bms_bundle::{Bundle, MANIFEST, Mode, Policy, SIGNATURE};
use bms_wire::Code;

use crate::samples::signed;

/// Flips one bit of each byte in turn, not always the same bit, and hands on the codes.
fn flips(
    files: &[(String, Vec<u8>)],
    name: &str,
    policy: &Policy,
    mut each: impl FnMut(usize, Option<Code>),
) {
    let length = files.iter().find(|(path, _)| path == name).unwrap().1.len();
    for at in 0..length {
        let mut changed = files.to_vec();
        changed.iter_mut().find(|(path, _)| path == name).unwrap().1[at] ^= 1 << (at % 8);
        let verdict = policy.verify(Bundle::from_files(changed).unwrap());
        each(at, verdict.err().map(|rejected| rejected.code));
    }
}

#[test]
fn one_flipped_byte_of_a_file_is_refused_as_tampering() {
    let (files, key) = signed();
    for mode in [Mode::Enforce, Mode::Development] {
        let policy = Policy { mode, ..Policy::trusting(key.public(), "me") };
        policy.verify(Bundle::from_files(files.clone()).unwrap()).expect("admitted unchanged");
        for name in ["model.onnx", "labels.txt", "report/curves.json"] {
            let (mut flipped, mut tampered) = (0, 0);
            flips(&files, name, &policy, |at, code| {
                // A flip can make an attack of a model, which is reported first.
                let right = matches!(code, Some(Code::Tampered | Code::MaliciousContent));
                assert!(right, "{name} byte {at}: {code:?}");
                flipped += 1;
                tampered += usize::from(code == Some(Code::Tampered));
            });
            assert!(flipped * 9 < tampered * 10, "{name}: only {tampered} of {flipped} are tampering");
        }
    }
}

#[test]
fn one_flipped_byte_of_the_manifest_is_refused_as_tampering() {
    let (files, key) = signed();
    flips(&files, MANIFEST, &Policy::trusting(key.public(), "me"), |at, code| {
        assert_eq!(code, Some(Code::Tampered), "byte {at}");
    });
}

#[test]
fn one_flipped_byte_of_the_signature_is_refused_as_invalid() {
    let (files, key) = signed();
    flips(&files, SIGNATURE, &Policy::trusting(key.public(), "me"), |at, code| {
        assert_eq!(code, Some(Code::SignatureInvalid), "byte {at}");
    });
}

#[test]
fn a_shortened_or_lengthened_file_is_refused() {
    let (files, key) = signed();
    let policy = Policy::trusting(key.public(), "me");
    for (name, code) in [
        ("model.onnx", Code::Tampered),
        ("labels.txt", Code::Tampered),
        (MANIFEST, Code::Tampered),
        (SIGNATURE, Code::SignatureInvalid),
    ] {
        let change = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = files.clone();
            edit(&mut changed.iter_mut().find(|(path, _)| path == name).unwrap().1);
            policy.verify(Bundle::from_files(changed).unwrap()).expect_err(name).code
        };
        assert_eq!(change(&|bytes| bytes.truncate(bytes.len() - 1)), code, "{name} shortened");
        assert_eq!(change(&|bytes| bytes.clear()), code, "{name} emptied");
        assert_eq!(change(&|bytes| bytes.extend(b"xyz")), code, "{name} lengthened");
    }
}
