use half::f16;

use super::*;
use crate::dequant::tests::Numbers;

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    (0..len).map(|_| (numbers.next() >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn layout(kind: KvKind) -> KvLayout {
    KvLayout { kv_heads: 3, head_dim: 24, kind }
}

/// Key and value of a token's head, read back.
fn read(store: &KvStore, layer: usize, page: PageId, head: usize, slot: usize) -> (Vec<f32>, Vec<f32>) {
    let layout = store.layout();
    let head = store.head(layer, page, head);
    let code = |codes: &[u8], at: usize| match layout.kind {
        KvKind::F16 => f16::from_ne_bytes([codes[2 * at], codes[2 * at + 1]]).to_f32(),
        KvKind::Q8 => f32::from(codes[at] as i8),
        KvKind::F32 => {
            f32::from_ne_bytes([codes[4 * at], codes[4 * at + 1], codes[4 * at + 2], codes[4 * at + 3]])
        }
    };
    let scale = |scales: &[f32]| scales.get(slot).copied().unwrap_or(1.0);
    let keys = (0..layout.head_dim).map(|d| code(head.keys, d * PAGE_TOKENS + slot) * scale(head.key_scales));
    let values = (0..layout.head_dim)
        .map(|d| code(head.values, slot * layout.head_dim + d) * scale(head.value_scales));
    (keys.collect(), values.collect())
}

/// How far a stored number in [-1, 1] may be from what was written: half a unit of the last place of half precision
/// below one, or half a step of 1/127.
fn rounding(kind: KvKind) -> f32 {
    match kind {
        KvKind::F16 => 0.5 / 2048.0,
        KvKind::Q8 => 0.5 / 127.0 + 1e-6,
        KvKind::F32 => 0.0,
    }
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{found} for {expected}");
    }
}

#[test]
fn a_written_token_is_read_back_and_its_neighbours_stay() {
    for kind in [KvKind::F16, KvKind::Q8, KvKind::F32] {
        let layout = layout(kind);
        let mut store = KvStore::new(2, 5, layout).unwrap();
        let (k, v) = (random(1, 72), random(2, 72));
        store.write(1, 3, 7, &k, &v);
        for head in 0..3 {
            let (key, value) = read(&store, 1, 3, head, 7);
            assert_near(&key, &k[head * 24..(head + 1) * 24], rounding(kind));
            assert_near(&value, &v[head * 24..(head + 1) * 24], rounding(kind));
            for (layer, page, slot) in [(1, 3, 6), (1, 3, 8), (1, 2, 7), (1, 4, 7), (0, 3, 7)] {
                assert_eq!(read(&store, layer, page, head, slot), (vec![0.0; 24], vec![0.0; 24]));
            }
        }
    }
}

#[test]
fn many_rows_are_written_as_one_by_one_on_every_instruction_set() {
    for isa in Isa::available() {
        for kind in [KvKind::F16, KvKind::Q8, KvKind::F32] {
            for threads in [1, 3] {
                let pool = Pool::new(threads, isa);
                let mut one = KvStore::new(1, 12, layout(kind)).unwrap();
                let mut many = KvStore::new(1, 12, layout(kind)).unwrap();
                let (k, v) = (random(3, 60 * 72), random(4, 60 * 72));
                let sequences = [
                    AttendSeq { pages: &[4, 2, 9, 0], start: 13, rows: 40, first_row: 0 },
                    AttendSeq { pages: &[7], start: 0, rows: 1, first_row: 40 },
                    AttendSeq { pages: &[1, 3], start: 16, rows: 5, first_row: 50 },
                    AttendSeq { pages: &[], start: 0, rows: 0, first_row: 60 },
                ];
                many.write_rows(&pool, 0, &sequences, &k, &v);
                for sequence in &sequences {
                    for i in 0..sequence.rows {
                        let (at, row) = (sequence.start + i, (sequence.first_row + i) * 72);
                        let page = sequence.pages[at / PAGE_TOKENS];
                        one.write(0, page, at % PAGE_TOKENS, &k[row..row + 72], &v[row..row + 72]);
                    }
                }
                assert!(one.memory[..] == many.memory[..], "{kind:?} on {isa}");
            }
        }
    }
}

#[test]
fn a_copied_page_is_equal_in_all_layers() {
    let mut store = KvStore::new(3, 4, layout(KvKind::Q8)).unwrap();
    for layer in 0..3 {
        for slot in 0..PAGE_TOKENS {
            store.write(layer, 2, slot, &random(layer as u64 + 9, 72), &random(slot as u64, 72));
        }
    }
    store.copy_page(2, 0);
    for (layer, head, slot) in [(0, 0, 0), (1, 2, 7), (2, 1, 15)] {
        assert_eq!(read(&store, layer, 0, head, slot), read(&store, layer, 2, head, slot));
        assert_ne!(read(&store, layer, 0, head, slot), read(&store, layer, 1, head, slot));
    }
}

#[test]
fn sizes_are_told_and_nothing_is_resident_before_it_is_written() {
    let f16 = KvStore::new(4, 10, KvLayout { kv_heads: 8, head_dim: 128, kind: KvKind::F16 }).unwrap();
    assert_eq!(f16.bytes_per_token(), 4 * 8 * 2 * 128 * 2);
    let q8 = KvStore::new(4, 10, KvLayout { kv_heads: 8, head_dim: 128, kind: KvKind::Q8 }).unwrap();
    assert_eq!(q8.bytes_per_token(), 4 * 8 * 2 * (128 + 4));
    // More than most machines have: only its addresses are taken.
    let large =
        KvStore::new(32, 1 << 20, KvLayout { kv_heads: 8, head_dim: 128, kind: KvKind::F16 }).unwrap();
    assert_eq!(large.bytes(), 32 << 36);
    assert_eq!(large.head(31, (1 << 20) - 1, 7).keys[4095], 0);
}

#[test]
fn large_numbers_are_cut_and_what_is_no_number_stays_none() {
    for kind in [KvKind::F16, KvKind::Q8, KvKind::F32] {
        let mut store = KvStore::new(1, 1, layout(kind)).unwrap();
        let mut k = random(1, 72);
        (k[3], k[30], k[50]) = (1e6, f32::INFINITY, f32::NAN);
        store.write(0, 0, 0, &k, &k);
        assert!(read(&store, 0, 0, 0, 0).0.iter().all(|x| x.is_finite()));
        assert!(read(&store, 0, 0, 1, 0).0.iter().all(|x| !x.is_nan()));
        assert!(read(&store, 0, 0, 2, 0).1.iter().any(|x| x.is_nan()));
    }
}

#[test]
fn sizes_that_do_not_work_are_refused() {
    let with = |kv_heads, head_dim| KvLayout { kv_heads, head_dim, kind: KvKind::F16 };
    for (layers, pages, layout) in [
        (0, 1, with(1, 64)),
        (1, 0, with(1, 64)),
        (1, 1, with(0, 64)),
        (1, 1, with(1, 0)),
        (1, 1, with(1, 60)),
        (1, 1, with(1, 264)),
    ] {
        assert!(matches!(KvStore::new(layers, pages, layout), Err(KvError::Shape(_))));
    }
    assert!(matches!(KvStore::new(1, 1 << 33, with(1, 64)), Err(KvError::TooLarge)));
    assert!(matches!(KvStore::new(usize::MAX, 1, with(1, 64)), Err(KvError::TooLarge)));
    assert!(matches!(KvStore::new(1, 1, with(usize::MAX, 64)), Err(KvError::TooLarge)));
}

#[test]
#[should_panic(expected = "page 1 is written twice")]
fn two_sequences_do_not_write_one_page() {
    let mut store = KvStore::new(1, 2, layout(KvKind::F16)).unwrap();
    let sequences = [
        AttendSeq { pages: &[1], start: 0, rows: 1, first_row: 0 },
        AttendSeq { pages: &[1], start: 4, rows: 1, first_row: 1 },
    ];
    store.write_rows(&Pool::new(1, Isa::Scalar), 0, &sequences, &[0.0; 144], &[0.0; 144]);
}

#[test]
#[should_panic(expected = "page 2 of 2")]
fn a_page_outside_the_store_is_refused() {
    KvStore::new(1, 2, layout(KvKind::F16)).unwrap().write(0, 2, 0, &[0.0; 72], &[0.0; 72]);
}

#[test]
#[should_panic(expected = "17 tokens in 1 pages")]
fn too_few_pages_are_refused() {
    let mut store = KvStore::new(1, 2, layout(KvKind::F16)).unwrap();
    let sequences = [AttendSeq { pages: &[0], start: 16, rows: 1, first_row: 0 }];
    store.write_rows(&Pool::new(1, Isa::Scalar), 0, &sequences, &[0.0; 72], &[0.0; 72]);
}
