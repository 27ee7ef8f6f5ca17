use super::*;

#[test]
fn every_name_is_read_back_whatever_the_machine() {
    for isa in Isa::ALL {
        assert_eq!(Isa::parse(isa.as_str()), Some(*isa));
        assert_eq!(isa.to_string(), isa.as_str());
    }
    assert_eq!(Isa::parse("neon-dotprod"), Some(Isa::NeonDotprod));
    assert_eq!(Isa::parse("sse9"), None);
}

#[test]
fn the_best_is_the_last_of_what_there_is_and_of_one_architecture() {
    let found = Isa::available();
    // What the other tests loop over. `cargo xtask ci` reads it, for an instruction set the machine is said to lack would
    // go untested without a word.
    println!("instruction sets: {}", found.iter().map(|isa| isa.as_str()).collect::<Vec<_>>().join(", "));
    assert_eq!(found.first(), Some(&Isa::Scalar));
    assert_eq!(found.last(), Some(&Isa::best()));
    let foreign: &[Isa] = match std::env::consts::ARCH {
        "x86_64" => &[Isa::Neon, Isa::NeonDotprod],
        "aarch64" => &[Isa::Avx2, Isa::Avx512, Isa::Amx],
        _ => &Isa::ALL[1..],
    };
    assert!(foreign.iter().all(|isa| !isa.is_available()), "{found:?}");
}

#[test]
#[cfg(target_arch = "aarch64")]
fn arm_processors_have_neon() {
    assert!(Isa::Neon.is_available());
    let dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
    assert_eq!(Isa::best(), if dotprod { Isa::NeonDotprod } else { Isa::Neon });
}
