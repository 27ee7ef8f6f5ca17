//! Any bytes as what lies in a store, with the digests put right: packs, indexes, recipes, lists of garbage; and as chunks sent.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bms_store::hostile::read(data));
