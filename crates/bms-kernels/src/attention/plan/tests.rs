use std::collections::BTreeMap;

use super::*;
use crate::{KvKind, PageId};

const PAGES: [PageId; 300] = [0; 300];

fn sequences(shapes: &[(usize, usize)]) -> Vec<AttendSeq<'static>> {
    let mut first_row = 0;
    shapes
        .iter()
        .map(|&(start, rows)| {
            first_row += rows;
            AttendSeq { pages: &PAGES, start, rows, first_row: first_row - rows }
        })
        .collect()
}

fn plan(threads: usize, kv_heads: usize, group: usize, sequences: &[AttendSeq<'_>]) -> Plan {
    let layout = KvLayout { kv_heads, head_dim: 64, kind: KvKind::F16 };
    let params =
        AttendParams { heads: kv_heads * group, scale: 1.0, window: None, softcap: None, causal: true };
    let mut plan = Plan::default();
    plan.make(threads, layout, sequences, &params);
    plan
}

#[test]
fn every_row_of_every_head_sees_each_of_its_pages_once() {
    for threads in [1, 2, 7, 64] {
        for (kv_heads, group) in [(1, 1), (3, 3), (8, 4), (1, 71)] {
            let sequences = sequences(&[(0, 1), (4000, 1), (1000, 300), (17, 3), (0, 0), (2000, 7)]);
            let plan = plan(threads, kv_heads, group, &sequences);
            let mut seen = BTreeMap::<(usize, usize, usize), Vec<Range<usize>>>::new();
            for task in &plan.tasks {
                for head in task.kv_heads.clone() {
                    for row in task.rows.clone() {
                        seen.entry((task.sequence, head, row)).or_default().push(task.pages.clone());
                    }
                }
            }
            let rows: usize = sequences.iter().map(|sequence| sequence.rows).sum();
            assert_eq!(seen.len(), rows * kv_heads);
            for ((sequence, _, row), mut pages) in seen {
                pages.sort_by_key(|pages| pages.start);
                assert_eq!(pages[0].start, 0);
                assert!(pages.windows(2).all(|pair| pair[0].end == pair[1].start));
                let last = (sequences[sequence].start + row) / PAGE_TOKENS;
                assert!(pages.last().is_some_and(|pages| last < pages.end));
            }
        }
    }
}

#[test]
fn results_of_sections_do_not_overlap() {
    let plan = plan(8, 3, 3, &sequences(&[(4000, 1), (4500, 2), (3000, 1)]));
    let mut places: Vec<Range<usize>> = Vec::new();
    for task in &plan.tasks {
        let Some(division) = task.division else { continue };
        let division = &plan.divisions[division];
        for section in super::sections(&task.pages) {
            assert!(division.sections.contains(&section));
            let part = section - division.sections.start;
            let len = task.rows.len() * task.kv_heads.len() * 3 * part_row_len(64);
            places.push(division.at + part * len..division.at + (part + 1) * len);
        }
    }
    places.sort_by_key(|place| place.start);
    assert!(1 < places.len() && places.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(places.last().is_some_and(|place| place.end <= plan.parts_len));
}

#[test]
fn one_row_of_one_sequence_gives_every_thread_work() {
    for threads in [2, 8, 32] {
        for kv_heads in [1, 3, 8] {
            let plan = plan(threads, kv_heads, 4, &sequences(&[(4095, 1)]));
            // A section is not divided.
            let most = kv_heads * (4096 / PAGE_TOKENS / SECTION_PAGES);
            assert!(threads.min(most) <= plan.tasks.len(), "{threads} {kv_heads}: {}", plan.tasks.len());
            let costs: Vec<usize> = plan.tasks.iter().map(|task| task.cost).collect();
            assert!(costs[0] <= 3 * costs[costs.len() - 1], "{costs:?}");
        }
    }
}

#[test]
fn one_thread_divides_nothing() {
    let plan = plan(1, 8, 4, &sequences(&[(4095, 1), (100, 1)]));
    assert!(plan.divisions.is_empty() && plan.parts_len == 0);
    assert_eq!(plan.tasks.len(), 2);
}

#[test]
fn windows_leave_out_what_is_too_far() {
    let params = |window, causal| AttendParams { heads: 1, scale: 1.0, window, softcap: None, causal };
    assert_eq!(visible(&params(None, true), 9, 20), 0..10);
    assert_eq!(visible(&params(Some(4), true), 9, 20), 6..10);
    assert_eq!(visible(&params(Some(40), true), 9, 20), 0..10);
    assert_eq!(visible(&params(None, false), 9, 20), 0..20);
    assert_eq!(visible(&params(Some(4), false), 9, 20), 6..13);
    assert_eq!(visible(&params(Some(usize::MAX), false), 9, 20), 0..20);
}
