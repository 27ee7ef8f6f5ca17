use super::*;

#[test]
fn every_byte_is_read() {
    let mut bytes = vec![0u8; STREAMS * 4096];
    for isa in Isa::available() {
        assert_eq!(read(isa, &bytes), 0, "{isa}");
    }
    for at in [0, 63, 4095, 4096, 3 * 4096 + 64, STREAMS * 4096 - 1] {
        bytes[at] = 0x40;
        for isa in Isa::available() {
            assert_ne!(read(isa, &bytes), 0, "{isa} did not see byte {at}");
        }
        bytes[at] = 0;
    }
}

#[test]
fn rates_are_possible_ones() {
    let probe = ReadProbe::new(8 << 20).unwrap();
    for isa in Isa::available() {
        let pool = Pool::new(2, isa);
        for rate in [probe.bandwidth(&pool, 3), f32_peak(&pool, 3), int8_peak(&pool, 3)] {
            assert!(1e7 < rate.median && rate.median <= rate.best && rate.best < 1e15, "{isa}: {rate:?}");
        }
    }
}

#[test]
fn the_median_of_an_even_number_is_one_of_them() {
    assert_eq!(Rate::of(vec![3.0, 1.0, 2.0]), Rate { median: 2.0, best: 3.0 });
    assert_eq!(Rate::of(vec![4.0, 1.0]), Rate { median: 4.0, best: 4.0 });
}
