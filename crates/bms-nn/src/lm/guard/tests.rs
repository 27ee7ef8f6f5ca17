use super::*;

/// Weights of lengths that fill a block, less, more, and nothing.
fn weights() -> Vec<Vec<u8>> {
    let lengths = [BLOCK_BYTES, 12, 2 * BLOCK_BYTES + 5, 0, 1];
    lengths.iter().map(|len| (0..*len).map(|at| ((at * 31) >> 3) as u8).collect()).collect()
}

fn slices(weights: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    weights.iter_mut().map(Vec::as_mut_slice).collect()
}

fn pass(guard: &mut WeightGuard, weights: &mut [Vec<u8>]) -> Vec<Damage> {
    let mut found = Vec::new();
    loop {
        let checked = guard.check_next(&slices(weights)).unwrap();
        found.extend(checked.damage);
        if checked.pass_ended {
            return found;
        }
    }
}

#[test]
fn every_flipped_bit_is_found_where_it_is_and_put_back() {
    let (mut weights, good) = (weights(), weights());
    let mut guard = WeightGuard::new(&slices(&mut weights)).unwrap();
    assert_eq!((guard.blocks(), guard.is_recorded()), (6, false));
    assert!(pass(&mut guard, &mut weights).is_empty());
    assert!(guard.is_recorded());
    let places = [(0, 0), (0, BLOCK_BYTES - 1), (1, 11), (2, BLOCK_BYTES), (2, 2 * BLOCK_BYTES + 4), (4, 0)];
    for (weight, at) in places {
        for bit in 0..8 {
            weights[weight][at] ^= 1 << bit;
            let found = pass(&mut guard, &mut weights);
            let [damage] = &found[..] else { panic!("{found:?} for a flip in {weight} at {at}") };
            assert!(damage.weight == weight && damage.bytes.contains(&at), "{damage:?}");
            let bytes = good[weight][damage.bytes.clone()].to_vec();
            assert_eq!(guard.repair(&mut slices(&mut weights), damage, &bytes).unwrap(), 1);
            assert_eq!(weights, good);
        }
    }
}

#[test]
fn what_was_not_recorded_is_not_put_in_place() {
    let mut weights = weights();
    let mut guard = WeightGuard::new(&slices(&mut weights)).unwrap();
    pass(&mut guard, &mut weights);
    let mut other = weights[0].clone();
    other[7] ^= 1;
    weights[0][3] ^= 4;
    let damaged = weights.clone();
    let damage = pass(&mut guard, &mut weights).remove(0);
    for wrong in [&other[..], &other[1..], &[]] {
        let refused = guard.repair(&mut slices(&mut weights), &damage, wrong).unwrap_err();
        assert_eq!(refused.code(), Code::Tampered);
        assert_eq!(weights, damaged);
    }
}

#[test]
fn other_weights_are_an_error() {
    let mut weights = weights();
    let mut guard = WeightGuard::new(&slices(&mut weights)).unwrap();
    assert_eq!(guard.check_next(&[]).unwrap_err().code(), Code::Internal);
    assert!(WeightGuard::new(&[]).is_none());
}
