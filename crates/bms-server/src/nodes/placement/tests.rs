use std::collections::BTreeMap;

use super::*;

/// Numbers that look random and are the same each time; Knuth's multiplier.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn host(name: &str, memory: u64, cores: u64) -> Host {
    Host {
        name: name.to_owned(),
        memory_bytes: memory << 20,
        free_bytes: None,
        cores,
        labels: labels(&[("zone", name)]),
        alive: true,
        open: true,
        refuses: BTreeMap::new(),
    }
}

fn wish(model: &str, number: u64, memory: u64) -> Wish {
    Wish {
        model: model.to_owned(),
        version: 1,
        number,
        memory: Reckoned { bytes: memory << 20, by: Basis::Files },
        cores: None,
        labels: labels(&[]),
    }
}

/// One that is asked to have so many processors.
fn wide(model: &str, cores: u64) -> Wish {
    Wish { cores: Some(cores), ..wish(model, 0, 100) }
}

/// What stands once a plan is carried out and those that were left have gone.
fn carried_out(standing: &[Standing], plan: &Plan) -> Vec<Standing> {
    let goes = |id: &String| plan.leave.contains(id) || plan.remove.contains(id);
    let mut after: Vec<_> = standing.iter().filter(|s| !goes(&s.id) && !s.leaving).cloned().collect();
    for (wish, host, why) in &plan.add {
        after.push(Standing {
            id: format!("{}/{}/{host:?}", wish.model, wish.number),
            model: wish.model.clone(),
            version: wish.version,
            number: wish.number,
            host: host.clone(),
            memory_bytes: wish.memory.bytes,
            resident_bytes: 0,
            cores: wish.cores,
            leaving: false,
            why: why.clone(),
        });
    }
    for (id, why) in &plan.say {
        after.iter_mut().find(|s| s.id == *id).expect("it stands").why = why.clone();
    }
    after
}

fn where_is<'a>(standing: &'a [Standing], model: &str, number: u64) -> Option<&'a str> {
    let found = standing.iter().find(|s| s.model == model && s.number == number);
    found.expect("it is somewhere").host.as_deref()
}

#[test]
fn slots_of_one_version_are_spread_and_others_fit_best() {
    let hosts = [host("a", 1000, 8), host("b", 600, 8)];
    let after = carried_out(&[], &place(&hosts, &[wish("m", 0, 100), wish("m", 1, 100)], &[]));
    // The first where the least remains, the second where no other is.
    assert_eq!((where_is(&after, "m", 0), where_is(&after, "m", 1)), (Some("b"), Some("a")));
}

#[test]
fn what_fits_nowhere_is_at_the_centre_with_the_reason_and_goes_to_a_worker_that_comes() {
    let mut wanted = wish("m", 0, 700);
    wanted.labels = labels(&[("zone", "b")]);
    let hosts = [host("a", 1000, 8), host("b", 600, 8)];
    let plan = place(&hosts, std::slice::from_ref(&wanted), &[]);
    let (_, place_, why) = &plan.add[0];
    assert_eq!(*place_, None);
    assert_eq!(
        why,
        "no worker takes it: a: it has no label zone=b; b: 600 MiB of memory are free, 700 wanted"
    );
    let standing = carried_out(&[], &plan);
    assert_eq!(place(&hosts, std::slice::from_ref(&wanted), &standing), Plan::default(), "nothing changed");

    let larger = [host("a", 1000, 8), host("b", 800, 8)];
    let plan = place(&larger, std::slice::from_ref(&wanted), &standing);
    assert_eq!(plan.leave, [standing[0].id.clone()]);
    assert_eq!(where_is(&carried_out(&standing, &plan), "m", 0), Some("b"));
}

#[test]
fn one_that_is_drained_keeps_its_slot_until_another_has_it_and_one_that_is_gone_does_not() {
    let mut hosts = [host("a", 1000, 8), host("b", 1000, 8)];
    let wanted = [wish("m", 0, 100)];
    let standing = carried_out(&[], &place(&hosts, &wanted, &[]));
    assert_eq!(where_is(&standing, "m", 0), Some("a"));
    hosts[0].open = false;
    let plan = place(&hosts, &wanted, &standing);
    assert_eq!((plan.leave.len(), plan.remove.len(), plan.add[0].1.as_deref()), (1, 0, Some("b")));
    hosts[0].alive = false;
    let plan = place(&hosts, &wanted, &standing);
    assert_eq!((plan.leave.len(), plan.remove.len(), plan.add[0].1.as_deref()), (0, 1, Some("b")));
}

#[test]
fn what_is_left_still_takes_its_room() {
    let hosts = [host("a", 150, 8)];
    let mut leaving = carried_out(&[], &place(&hosts, &[wish("old", 0, 100)], &[]));
    leaving[0].leaving = true;
    let plan = place(&hosts, &[wish("old", 0, 100)], &leaving);
    assert_eq!(plan.add[0].1, None, "both would need 200 MiB");
}

#[test]
fn processors_that_are_asked_for_are_found_or_said() {
    let hosts = [host("a", 1000, 2), host("b", 1000, 8)];
    let wanted = [wide("big", 4), wish("small", 0, 100)];
    let after = carried_out(&[], &place(&hosts, &wanted, &[]));
    assert_eq!(where_is(&after, "big", 0), Some("b"), "it fits there alone");
    let plan = place(&hosts[..1], &wanted[..1], &[]);
    assert_eq!(plan.add[0].2, "no worker takes it: a: 2 of its cores are free, 4 wanted");
    // What is asked for later: another takes over, wherever there is room beside it.
    let standing = carried_out(&[], &place(&hosts, &[wish("m", 0, 100)], &[]));
    assert_eq!(where_is(&standing, "m", 0), Some("a"));
    let plan = place(&hosts, &[wide("m", 2)], &standing);
    assert_eq!(plan.leave, [standing[0].id.clone()]);
    assert_eq!((plan.add.len(), plan.add[0].1.as_deref()), (1, Some("b")), "one of a's two is taken still");
    let after = carried_out(&standing, &plan);
    assert_eq!(place(&hosts, &[wide("m", 2)], &after), Plan::default());
}

#[test]
fn what_a_machine_has_free_bounds_what_comes_to_it_once() {
    let mut hosts = [host("a", 1000, 8)];
    hosts[0].free_bytes = Some(250 << 20);
    let wanted = [wish("m", 0, 100), wish("m", 1, 100), wish("m", 2, 100)];
    let plan = place(&hosts, &wanted, &[]);
    let reason = "no worker takes it: a: 50 MiB of its machine's memory are free, 100 wanted";
    assert_eq!((plan.add[1].1.as_deref(), plan.add[2].2.as_str()), (Some("a"), reason), "two of one round");
    // While they load the machine still has as much, but it is spoken for.
    let mut standing = carried_out(&[], &plan);
    assert_eq!(place(&hosts, &wanted, &standing), Plan::default());
    // Once they have loaded it has less, of which nothing is spoken for.
    hosts[0].free_bytes = Some(50 << 20);
    standing[..2].iter_mut().for_each(|slot| slot.resident_bytes = slot.memory_bytes);
    assert_eq!(place(&hosts, &wanted, &standing), Plan::default());
    // Other programs end.
    hosts[0].free_bytes = Some(100 << 20);
    let plan = place(&hosts, &wanted, &standing);
    assert_eq!(where_is(&carried_out(&standing, &plan), "m", 2), Some("a"));
}

#[test]
fn what_is_known_by_now_moves_nothing_and_is_said_when_it_comes_to_something_else() {
    let mut hosts = [host("a", 300, 8)];
    let wanted = [wish("m", 0, 100), wish("m", 1, 250)];
    let mut standing = carried_out(&[], &place(&hosts, &wanted, &[]));
    assert_eq!((where_is(&standing, "m", 0), where_is(&standing, "m", 1)), (None, Some("a")));
    // It takes more than the worker's slots may use together: it stays.
    let at =
        |standing: &[Standing], number| standing.iter().position(|s| s.number == number).expect("it stands");
    let (centre, worker) = (at(&standing, 0), at(&standing, 1));
    standing[worker].memory_bytes = 900 << 20;
    assert_eq!(place(&hosts, &wanted, &standing), Plan::default(), "0 MiB are free instead of 50: no news");
    // Now it is the machine.
    standing[worker].memory_bytes = 150 << 20;
    standing[worker].resident_bytes = 150 << 20;
    hosts[0].free_bytes = Some(60 << 20);
    let plan = place(&hosts, &wanted, &standing);
    let why = "no worker takes it: a: 60 MiB of its machine's memory are free, 100 wanted";
    assert_eq!(plan, Plan { say: vec![(standing[centre].id.clone(), why.to_owned())], ..Plan::default() });
    let standing = carried_out(&standing, &plan);
    hosts[0].free_bytes = Some(61 << 20);
    assert_eq!(place(&hosts, &wanted, &standing), Plan::default());
    // Cores are counted, and told as they are.
    let many = [wide("m", 9)];
    let told = carried_out(&[], &place(&[host("b", 1000, 8)], &many, &[]));
    let plan = place(&[host("b", 1000, 7)], &many, &told);
    assert!(plan.say[0].1.ends_with("b: 7 of its cores are free, 9 wanted"), "{plan:?}");
    // And what is wanted is more, as was seen, or asked for.
    let mut wanted = wanted;
    for (by, said) in [(Basis::Seen, "as a slot of it takes, and a quarter"), (Basis::Asked, "as asked for")]
    {
        wanted[0].memory = Reckoned { bytes: 200 << 20, by };
        let plan = place(&hosts, &wanted, &standing);
        assert!(
            plan.say[0].1.ends_with(&format!("150 MiB of memory are free, 200 wanted, {said}")),
            "{plan:?}"
        );
    }
}

/// Random fleets: never over capacity, stable when nothing changes, and the loss of a worker moves its own slots only.
#[test]
fn properties_of_random_fleets() {
    let mut dice = Dice(7);
    for case in 0..400 {
        let count = 1 + dice.below(6);
        let mut hosts: Vec<_> =
            (0..count).map(|n| host(&format!("w{n}"), 100 + dice.below(900), 1 + dice.below(8))).collect();
        let wishes: Vec<_> = (0..dice.below(20))
            .map(|n| {
                let mut wish = wish(&format!("m{}", n / 3), n % 3, 20 + dice.below(300));
                wish.cores = Some(dice.below(4)).filter(|cores| *cores != 0);
                if dice.below(5) == 0 {
                    wish.labels = labels(&[("zone", &format!("w{}", dice.below(count)))]);
                }
                wish
            })
            .collect();
        let standing = carried_out(&[], &place(&hosts, &wishes, &[]));
        assert_eq!(standing.len(), wishes.len(), "case {case}: everything is somewhere");
        check_capacity(case, &hosts, &standing);
        for wish in &wishes {
            let at = where_is(&standing, &wish.model, wish.number);
            let fits = |name: &str| wish.labels.get("zone").is_none_or(|zone| zone == name);
            assert!(at.is_none_or(fits), "case {case}: {wish:?} at {at:?}");
        }
        assert_eq!(place(&hosts, &wishes, &standing), Plan::default(), "case {case}: stable");

        let lost = dice.below(count) as usize;
        hosts[lost].alive = false;
        let plan = place(&hosts, &wishes, &standing);
        let own = |id: &String| {
            let slot = standing.iter().find(|s| s.id == *id).expect("it stood");
            slot.host.as_deref() == Some(&hosts[lost].name)
        };
        assert!(plan.remove.iter().all(own), "case {case}: only its own slots go");
        assert!(plan.leave.is_empty(), "case {case}: nobody else moves");
        let after = carried_out(&standing, &plan);
        assert_eq!(after.len(), wishes.len(), "case {case}");
        check_capacity(case, &hosts, &after);
    }
}

fn check_capacity(case: u64, hosts: &[Host], standing: &[Standing]) {
    for host in hosts {
        let there = || standing.iter().filter(|s| s.host.as_deref() == Some(&host.name));
        let (memory, cores) =
            (there().map(|s| s.memory_bytes).sum::<u64>(), there().map(|s| counted(s.cores)).sum::<u64>());
        assert!(memory <= host.memory_bytes && cores <= host.cores, "case {case}: {host:?}");
    }
}

/// What a slot really takes once it has loaded, which its figure may be far from.
fn real(slot: &Standing) -> u64 {
    let (bytes, share) = (slot.memory_bytes, slot.id.bytes().map(u64::from).sum::<u64>() % 5);
    bytes / 4 + bytes / 4 * share
}

/// Fleets over time: slots load, what they are reckoned with is corrected up and down, machines have other things to do, and
/// more is wanted. Whatever happens, who goes to a worker fits there by all that is known at that moment, nothing that
/// stands on a worker that is well moves, and deciding twice decides nothing.
#[test]
fn properties_of_fleets_over_time() {
    let mut dice = Dice(11);
    for case in 0..200 {
        let mut hosts: Vec<_> = (0..1 + dice.below(4))
            .map(|n| host(&format!("w{n}"), 200 + dice.below(900), 1 + dice.below(12)))
            .collect();
        let (mut wishes, mut standing) = (Vec::new(), Vec::<Standing>::new());
        for round in 0..20 {
            for slot in &mut standing {
                match dice.below(3) {
                    // It goes on loading, or has loaded, and is reckoned with what is seen from then on.
                    0 => slot.resident_bytes = real(slot).min(slot.resident_bytes + (40 << 20)),
                    1 if slot.resident_bytes != 0 => {
                        slot.memory_bytes =
                            (slot.memory_bytes * (80 + dice.below(50)) / 100).max(slot.resident_bytes);
                    }
                    _ => {}
                }
            }
            for host in &mut hosts {
                let in_use: u64 = on(&standing, host).map(|s| s.resident_bytes).sum();
                let others = dice.below(300) << 20;
                host.free_bytes = (dice.below(5) != 0)
                    .then(|| host.memory_bytes.saturating_sub(in_use).saturating_sub(others));
            }
            let mut wish = wish(&format!("m{}", round / 3), round % 3, 20 + dice.below(300));
            wish.cores = Some(dice.below(4)).filter(|cores| *cores != 0);
            wishes.push(wish);
            let plan = place(&hosts, &wishes, &standing);
            let after = carried_out(&standing, &plan);
            check_decided(case, &hosts, &plan, &after);
            let at_centre = |id: &String| standing.iter().any(|s| s.id == *id && s.host.is_none());
            assert!(plan.remove.is_empty() && plan.leave.iter().all(at_centre), "case {case}: {plan:?}");
            assert_eq!(place(&hosts, &wishes, &after), Plan::default(), "case {case}: decided once");
            standing = after;
        }
    }
}

fn on<'a>(standing: &'a [Standing], host: &'a Host) -> impl Iterator<Item = &'a Standing> {
    standing.iter().filter(|slot| slot.host.as_deref() == Some(&host.name))
}

/// That each worker something was placed on has room for all on it, and its machine for all that is to come.
fn check_decided(case: u64, hosts: &[Host], plan: &Plan, after: &[Standing]) {
    let gets = |host: &&Host| plan.add.iter().any(|(_, to, _)| to.as_deref() == Some(&host.name));
    for host in hosts.iter().filter(gets) {
        check_capacity(case, std::slice::from_ref(host), after);
        let coming: u64 = on(after, host).map(|s| s.memory_bytes.saturating_sub(s.resident_bytes)).sum();
        assert!(host.free_bytes.is_none_or(|free| coming <= free), "case {case}: {host:?} gets {coming}");
    }
}

#[test]
fn what_a_worker_refuses_goes_elsewhere_and_is_not_tried_there_again() {
    let hosts = [host("a", 600, 8), host("b", 1000, 8)];
    let wishes = [wish("m", 0, 100), wish("n", 0, 100)];
    let standing = carried_out(&[], &place(&hosts, &wishes, &[]));
    assert_eq!((where_is(&standing, "m", 0), where_is(&standing, "n", 0)), (Some("a"), Some("a")));
    let refusing = |host: &Host| Host {
        refuses: BTreeMap::from([(("m".to_owned(), 1), "its key was revoked".to_owned())]),
        ..host.clone()
    };
    let one = [refusing(&hosts[0]), hosts[1].clone()];
    let plan = place(&one, &wishes, &standing);
    assert_eq!((plan.remove.len(), plan.add.len(), plan.leave.len()), (1, 1, 0), "the other stays: {plan:?}");
    let standing = carried_out(&standing, &plan);
    assert_eq!((where_is(&standing, "m", 0), where_is(&standing, "n", 0)), (Some("b"), Some("a")));
    assert_eq!(place(&one, &wishes, &standing), Plan::default());
    // Where all refuse it is at the centre, with the reason, and nothing changes any more.
    let both = [refusing(&hosts[0]), refusing(&hosts[1])];
    let plan = place(&both, &wishes, &standing);
    assert!(plan.add[0].2.contains("its key was revoked"), "{plan:?}");
    let standing = carried_out(&standing, &plan);
    assert_eq!(where_is(&standing, "m", 0), None);
    assert_eq!(place(&both, &wishes, &standing), Plan::default());
    // One that takes it again has it again.
    let standing = carried_out(&standing, &place(&one, &wishes, &standing));
    assert_eq!(where_is(&standing, "m", 0), Some("b"));
}
