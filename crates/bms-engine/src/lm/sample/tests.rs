use super::*;

fn place(position: usize) -> Place<'static> {
    Place { position, allowed: None, forbidden: &[], logprobs: None }
}

fn sampler(change: impl FnOnce(&mut Sampling)) -> Sampler {
    let mut sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    change(&mut sampling);
    Sampler::new(sampling, 42, 0, &[])
}

/// How often each token comes.
fn shares(sampler: &Sampler, logits: &[f32], draws: usize) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    for position in 0..draws {
        let choice = sampler.choose(&mut logits.to_vec(), &place(position), &mut Scratch::default()).unwrap();
        counts[choice.token as usize] += 1.0 / draws as f64;
    }
    counts
}

/// Logits of many tokens in a fixed disorder.
fn disorder(n: usize) -> Vec<f32> {
    (0..n).map(|i| (uniform(9, 0, i) * 12.0 - 6.0) as f32).collect()
}

#[test]
fn exp_is_the_exponential() {
    for i in 0..=870 {
        let x = -(i as f32) / 10.0;
        let want = f64::from(x).exp();
        assert!((f64::from(exp(x)) - want).abs() <= want * 4e-7, "{x}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-88.0), 0.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let greedy = sampler(|s| s.temperature = 0.0);
    let choose = |logits: &[f32]| greedy.choose(&mut logits.to_vec(), &place(0), &mut Scratch::default());
    assert_eq!(choose(&[1.0, 3.0, 3.0, 2.0]).unwrap().token, 1);
    assert_eq!(choose(&[f32::NAN, 1.0]).unwrap().token, 1);
    assert_eq!(choose(&[f32::NEG_INFINITY; 3]).unwrap_err().code(), Code::Internal);
    assert_eq!(choose(&[f32::NAN; 3]).unwrap_err().code(), Code::Internal);
    assert_eq!(choose(&[f32::INFINITY, 1.0]).unwrap_err().code(), Code::Internal);
    let mut many = disorder(50_000);
    many[33_333] = 7.0;
    assert_eq!(choose(&many).unwrap().token, 33_333);
}

#[test]
fn largest_is_a_sorted_prefix() {
    let logits = disorder(5000);
    let mut sorted: Vec<(f32, u32)> = logits.iter().enumerate().map(|(i, l)| (*l, i as u32)).collect();
    sorted.sort_by(better);
    for k in [1, 2, 20, 1000, 5000, 9000] {
        let mut out = Vec::new();
        largest(&logits, k, &mut out);
        assert_eq!(out, sorted[..k.min(5000)]);
    }
    let mut out = Vec::new();
    largest(&[1.0; 300], 3, &mut out);
    assert_eq!(out, [(1.0, 0), (1.0, 1), (1.0, 2)]);
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
    let plain = shares(&sampler(|_| ()), &logits, 20_000);
    for (share, want) in plain.iter().zip([0.1, 0.2, 0.3, 0.4]) {
        assert!((share - want).abs() < 0.012, "{plain:?}");
    }
    let cold = shares(&sampler(|s| s.temperature = 0.5), &logits, 20_000);
    for (share, want) in cold.iter().zip([1.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0, 16.0 / 30.0]) {
        assert!((share - want).abs() < 0.012, "{cold:?}");
    }
}

#[test]
fn filters_keep_what_they_say() {
    let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
    let kept = |change: fn(&mut Sampling)| {
        let shares = shares(&sampler(change), &logits, 4000);
        shares.iter().enumerate().filter(|(_, s)| 0.0 < **s).map(|(i, _)| i).collect::<Vec<_>>()
    };
    assert_eq!(kept(|s| s.top_k = 2), [2, 3]);
    assert_eq!(kept(|s| s.top_k = 1), [3]);
    assert_eq!(kept(|s| s.top_k = 9), [0, 1, 2, 3]);
    assert_eq!(kept(|s| s.top_p = 0.39), [3]);
    assert_eq!(kept(|s| s.top_p = 0.69), [2, 3]);
    assert_eq!(kept(|s| s.top_p = 0.71), [1, 2, 3]);
    assert_eq!(kept(|s| s.top_p = 1e-9), [3]);
    assert_eq!(kept(|s| s.min_p = 0.6), [2, 3]);
    assert_eq!(kept(|s| s.min_p = 1.0), [3]);
    assert_eq!(kept(|s| (s.top_k, s.top_p) = (3, 0.5)), [2, 3]);
    assert_eq!(kept(|s| (s.top_p, s.min_p) = (0.95, 0.6)), [2, 3]);
}

#[test]
fn top_p_of_a_large_vocabulary_is_exact() {
    let logits = disorder(20_000);
    let sampler = sampler(|s| s.top_p = 0.3);
    let mut sorted: Vec<(f32, u32)> = logits.iter().enumerate().map(|(i, l)| (*l, i as u32)).collect();
    sorted.sort_by(better);
    let total: f64 = sorted.iter().map(|(l, _)| f64::from(*l).exp()).sum();
    let (mut sum, mut kept) = (0.0, HashSet::new());
    for (logit, token) in sorted {
        if 0.3 <= sum {
            break;
        }
        kept.insert(token);
        sum += f64::from(logit).exp() / total;
    }
    for position in 0..2000 {
        let choice = sampler.choose(&mut logits.clone(), &place(position), &mut Scratch::default()).unwrap();
        assert!(kept.contains(&choice.token));
    }
}

#[test]
fn penalties_and_biases_move_logits() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        logit_bias: vec![(3, 1.5), (4, -100.0)],
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(sampling, 0, 0, &[0, 1]);
    for _ in 0..3 {
        sampler.count(2);
    }
    let mut logits = [2.0, -2.0, 4.0, 1.0, 9.0, 9.0];
    sampler.adjust(&mut logits, &Place { forbidden: &[5], ..place(0) });
    assert_eq!(logits, [1.0, -4.0, 0.25, 2.5, f32::NEG_INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn logprobs_are_of_the_masked_distribution() {
    let greedy = sampler(|s| s.temperature = 0.0);
    let mut allowed = SimpleVob::alloc(4);
    allowed.allow_token(1);
    allowed.allow_token(2);
    let mut logits = [0.5f32, 0.1, 0.3, 0.1].map(f32::ln);
    let place = Place { allowed: Some(&allowed), logprobs: Some(2), ..place(0) };
    let choice = greedy.choose(&mut logits, &place, &mut Scratch::default()).unwrap();
    assert_eq!(choice.token, 2);
    assert!((choice.logprob.unwrap() - 0.75f32.ln()).abs() < 1e-5);
    assert_eq!(choice.top.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [2, 1]);
    assert!((choice.top[1].1 - 0.25f32.ln()).abs() < 1e-5);
}

#[test]
fn a_seed_and_a_place_give_one_token() {
    let logits = disorder(1000);
    let draw = |sampler: &Sampler, position| {
        sampler.choose(&mut logits.clone(), &place(position), &mut Scratch::default()).unwrap().token
    };
    let first = sampler(|_| ());
    let tokens: Vec<u32> = (0..50).map(|position| draw(&first, position)).collect();
    assert_eq!(tokens, (0..50).map(|position| draw(&sampler(|_| ()), position)).collect::<Vec<_>>());
    assert_ne!(tokens, (0..50).map(|position| draw(&first.fork(1), position)).collect::<Vec<_>>());
}
