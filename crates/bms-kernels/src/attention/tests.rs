use super::*;
use crate::check::{CANARY, Tolerance, assert_close, difference, guarded, pools, random};
use crate::dequant::tests::Numbers;
use crate::{Isa, KvLayout};

/// Scores of some hundred products in 32 bits, their exponentials, and a mean of values below one.
const TOLERANCE: Tolerance = Tolerance { absolute: 4e-6, relative: 4e-6 };

/// A store with sequences of random keys and values in shuffled pages, and queries for their last rows.
struct Case {
    store: KvStore,
    /// Pages, place of the first row, rows.
    sequences: Vec<(Vec<PageId>, usize, usize)>,
    queries: Vec<f32>,
    heads: usize,
}

fn case(layout: KvLayout, group: usize, sequences: &[(usize, usize)]) -> Case {
    let pages: usize = sequences.iter().map(|(start, rows)| (start + rows).div_ceil(PAGE_TOKENS)).sum();
    let mut store = KvStore::new(2, pages + 1, layout).unwrap();
    let mut order: Vec<PageId> = (0..=pages as PageId).collect();
    let mut numbers = Numbers(7);
    for i in (1..order.len()).rev() {
        order.swap(i, numbers.next() as usize % (i + 1));
    }
    // What pages hold beyond a sequence's end must not matter, even when it is no number.
    let width = layout.kv_heads * layout.head_dim;
    for page in 0..=pages {
        for slot in 0..PAGE_TOKENS {
            store.write(1, page as PageId, slot, &vec![f32::NAN; width], &vec![f32::NAN; width]);
        }
    }
    let pool = Pool::new(1, Isa::best());
    let mut used = 0;
    let sequences: Vec<(Vec<PageId>, usize, usize)> = sequences
        .iter()
        .map(|&(start, rows)| {
            let count = (start + rows).div_ceil(PAGE_TOKENS);
            used += count;
            let pages = order[used - count..used].to_vec();
            let (k, v) = (
                random(used as u64, (start + rows) * width),
                random(99 + used as u64, (start + rows) * width),
            );
            let all = AttendSeq { pages: &pages, start: 0, rows: start + rows, first_row: 0 };
            store.write_rows(&pool, 1, &[all], &k, &v);
            (pages, start, rows)
        })
        .collect();
    let heads = group * layout.kv_heads;
    let rows: usize = sequences.iter().map(|(_, _, rows)| rows).sum();
    let queries = random(5, rows * heads * layout.head_dim).iter().map(|q| q * 2.0).collect();
    Case { store, sequences, queries, heads }
}

impl Case {
    fn sequences(&self) -> Vec<AttendSeq<'_>> {
        let mut first_row = 0;
        self.sequences
            .iter()
            .map(|(pages, start, rows)| {
                first_row += rows;
                AttendSeq { pages, start: *start, rows: *rows, first_row: first_row - rows }
            })
            .collect()
    }

    fn attend(&self, pool: &Pool, params: &AttendParams) -> Vec<f32> {
        guarded(&vec![CANARY; self.queries.len()], |out| {
            attend(pool, &self.store, 1, &self.sequences(), &self.queries, out, params);
        })
    }

    fn exact(&self, params: &AttendParams) -> Vec<f64> {
        let mut out = vec![f64::NAN; self.queries.len()];
        reference::attend(&self.store, 1, &self.sequences(), &self.queries, &mut out, params);
        out
    }
}

fn params(heads: usize) -> AttendParams {
    AttendParams { heads, scale: 0.3, window: None, softcap: None, causal: true }
}

fn check(case: &Case, params: &AttendParams, context: &str) {
    let exact = case.exact(params);
    for pool in pools() {
        let context = format!("{context} on {} with {} threads", pool.isa(), pool.threads());
        assert_close(&case.attend(&pool, params), &exact, TOLERANCE, context);
    }
}

const KINDS: [KvKind; 3] = [KvKind::F16, KvKind::Q8, KvKind::F32];

#[test]
fn one_token_of_each_sequence_attends_to_all_before_it() {
    for kind in KINDS {
        for head_dim in [8, 24, 64, 80, 96, 128, 256] {
            for (kv_heads, group) in [(2, 1), (1, 2), (3, 3), (2, 4), (1, 7), (1, 9), (1, 71)] {
                let case =
                    case(KvLayout { kv_heads, head_dim, kind }, group, &[(0, 1), (15, 1), (16, 1), (130, 1)]);
                check(&case, &params(case.heads), &format!("{kind:?} {head_dim} {kv_heads}x{group}"));
            }
        }
    }
}

#[test]
fn many_tokens_of_a_sequence_attend_to_those_before_each() {
    for kind in KINDS {
        for head_dim in [16, 40, 64] {
            for (kv_heads, group) in [(1, 1), (2, 3), (1, 5)] {
                let case =
                    case(KvLayout { kv_heads, head_dim, kind }, group, &[(0, 70), (37, 33), (5, 1), (63, 2)]);
                check(&case, &params(case.heads), &format!("{kind:?} {head_dim} {kv_heads}x{group}"));
            }
        }
    }
}

#[test]
fn a_long_context_is_divided_and_merged() {
    for kind in KINDS {
        let case = case(KvLayout { kv_heads: 2, head_dim: 32, kind }, 2, &[(1999, 1), (1500, 3)]);
        check(&case, &params(case.heads), &format!("{kind:?}"));
        // Scores of one hot token decide, wherever it stands: the parts' largest scores differ widely.
        let hot = AttendParams { scale: 9.0, ..params(case.heads) };
        let exact = case.exact(&hot);
        // Scores of some hundreds are rounded to 2^-16, which their exponentials make relative.
        let tolerance = Tolerance { absolute: 2e-4, relative: 0.0 };
        for pool in pools() {
            assert_close(
                &case.attend(&pool, &hot),
                &exact,
                tolerance,
                format!("{kind:?} hot on {}", pool.isa()),
            );
        }
        let layout = case.store.layout();
        let mut plan = Plan::default();
        plan.make(4, layout, &case.sequences(), &params(case.heads));
        assert!(!plan.divisions.is_empty(), "this is not a test of divisions");
    }
}

#[test]
fn windows_caps_and_both_directions_are_as_defined() {
    for kind in KINDS {
        let case =
            case(KvLayout { kv_heads: 2, head_dim: 48, kind }, 3, &[(0, 90), (200, 20), (700, 1), (0, 1)]);
        for window in [None, Some(1), Some(2), Some(16), Some(17), Some(50), Some(usize::MAX)] {
            for softcap in [None, Some(2.0)] {
                for causal in [true, false] {
                    let params = AttendParams { window, softcap, causal, ..params(case.heads) };
                    check(&case, &params, &format!("{kind:?} {params:?}"));
                }
            }
        }
    }
}

#[test]
fn a_token_attends_to_the_same_bits_alone_and_beside_others() {
    for kind in KINDS {
        for (head_dim, kv_heads, group) in [(16, 1, 1), (40, 2, 3), (64, 3, 3), (64, 1, 4), (24, 1, 9)] {
            // Also what is divided among threads when it is alone.
            for (start, rows) in [(0, 5), (30, 2), (300, 7), (250, 60), (1490, 3), (900, 140)] {
                let layout = KvLayout { kv_heads, head_dim, kind };
                let case = case(layout, group, &[(start, rows)]);
                let window = (head_dim == 64).then_some(300);
                let params = AttendParams { window, ..params(case.heads) };
                same_bits_alone(&case, &params, &format!("{layout:?} x {group}, {rows} rows at {start}"));
            }
        }
    }
}

/// On other numbers of threads, too.
fn same_bits_alone(case: &Case, params: &AttendParams, context: &str) {
    let width = case.heads * case.store.layout().head_dim;
    let (pages, start, rows) = (&case.sequences[0].0, case.sequences[0].1, case.sequences[0].2);
    for pool in pools() {
        let together = case.attend(&pool, params);
        for threads in [1, 5] {
            let other = Pool::new(threads, pool.isa());
            for row in [0, rows / 2, rows - 1] {
                let alone = [AttendSeq { pages, start: start + row, rows: 1, first_row: 0 }];
                let mut out = vec![CANARY; width];
                let queries = &case.queries[row * width..][..width];
                attend(&other, &case.store, 1, &alone, queries, &mut out, params);
                assert!(
                    out.iter().zip(&together[row * width..]).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "row {row}, {threads} threads, {context} {:?} on {}",
                    params.window,
                    pool.isa()
                );
            }
        }
    }
}

#[test]
fn rows_of_no_sequence_stay_as_they_are() {
    for pool in pools() {
        let case = case(KvLayout { kv_heads: 1, head_dim: 16, kind: KvKind::F16 }, 1, &[(3, 2), (4, 1)]);
        let mut sequences = case.sequences();
        sequences[0].rows = 1;
        let mut out = vec![CANARY; case.queries.len()];
        attend(&pool, &case.store, 1, &sequences, &case.queries, &mut out, &params(1));
        assert!(out[16..32].iter().all(|&x| x == CANARY) && out[..16].iter().all(|&x| x != CANARY));
    }
}

#[test]
fn what_is_no_number_poisons_its_own_sequence_only() {
    for kind in KINDS {
        for poison_key in [true, false] {
            let mut case = case(KvLayout { kv_heads: 1, head_dim: 32, kind }, 2, &[(900, 1), (40, 3)]);
            let (page, slot) = (case.sequences[0].0[10], 3);
            let (mut key, mut value) = (vec![0.5; 32], vec![0.5; 32]);
            if poison_key {
                key[5] = f32::NAN
            } else {
                value[5] = f32::NAN
            }
            case.store.write(1, page, slot, &key, &value);
            let exact = case.exact(&params(2));
            for pool in pools() {
                let found = case.attend(&pool, &params(2));
                assert!(found[..64].iter().any(|x| x.is_nan()), "{kind:?} on {}", pool.isa());
                assert_close(&found[64..], &exact[64..], TOLERANCE, format!("{kind:?} on {}", pool.isa()));
            }
        }
    }
}

#[test]
fn the_comparison_sees_one_token_too_many_or_too_few() {
    let case = case(KvLayout { kv_heads: 1, head_dim: 64, kind: KvKind::F16 }, 1, &[(400, 1)]);
    let found = case.attend(&Pool::new(1, Isa::best()), &params(1));
    for window in [Some(400), Some(399)] {
        let exact = case.exact(&AttendParams { window, ..params(1) });
        assert!(difference(&found, &exact, TOLERANCE).is_some());
    }
    let mut sequences = case.sequences();
    sequences[0].start -= 1;
    let mut exact = vec![0.0; 64];
    reference::attend(&case.store, 1, &sequences, &case.queries, &mut exact, &params(1));
    assert!(difference(&found, &exact, TOLERANCE).is_some());
}

#[test]
#[should_panic(expected = "row 1 belongs to two sequences")]
fn two_sequences_with_one_row_are_refused() {
    let case = case(KvLayout { kv_heads: 1, head_dim: 16, kind: KvKind::F16 }, 1, &[(3, 2), (4, 1)]);
    let mut sequences = case.sequences();
    sequences[1].first_row = 1;
    attend(&pools()[0], &case.store, 1, &sequences, &case.queries, &mut [0.0; 48], &params(1));
}

#[test]
#[should_panic(expected = "3 heads")]
fn heads_that_do_not_divide_are_refused() {
    let case = case(KvLayout { kv_heads: 2, head_dim: 16, kind: KvKind::F16 }, 1, &[(3, 2)]);
    attend(&pools()[0], &case.store, 1, &[], &[], &mut [], &params(3));
}
