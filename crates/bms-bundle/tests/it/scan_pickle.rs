//! The scanner on pickles. The hostile ones are never loaded, and would only print.

use bms_bundle::{Format, Nature, Severity, scan};

use crate::samples::{clean, finds, hostile_pickle, pickle, serious};

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A framed text constant of protocol 4.
fn text(value: &str) -> Vec<u8> {
    concat(&[&[0x8c, value.len() as u8], value.as_bytes()])
}

#[test]
fn data_is_clean_in_every_protocol() {
    for bytes in [
        pickle(),
        b"(dp0\nVx\np1\n(lp2\nI0\naI1\nas.".to_vec(),
        b"}q\x00(X\x01\x00\x00\x00xq\x01]q\x02(K\x00K\x01eu.".to_vec(),
        b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93\x94)R.".to_vec(),
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00.".to_vec(),
        b"\x80\x02X\x0d\x00\x00\x00os.system('x').".to_vec(),
        concat(&[&pickle(), &pickle()]),
    ] {
        clean(&bytes);
    }
}

#[test]
fn imports_are_judged_by_their_whole_path() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("commands", "getoutput"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.serialization", "os.system"),
        ("numpy", "load"),
        ("numpy", "f2py.os.system"),
        ("numpy", "__builtins__"),
        ("numpy.dtype", "x"),
        ("sklearn.linear_model", "os.system"),
        ("sklearn.linear_model.os", "system"),
        ("sklearn.linear_modelx", "Evil"),
        ("collections", "OrderedDict.__init__"),
        ("pathlib", "os.system"),
        ("my.own.module", "Anything"),
        ("", ""),
    ] {
        let global = concat(&[b"\x80\x02c", module.as_bytes(), b"\n", name.as_bytes(), b"\n)R."]);
        let stack = concat(&[b"\x80\x04", &text(module), &text(name), b"\x93)R."]);
        let inst = concat(&[b"(i", module.as_bytes(), b"\n", name.as_bytes(), b"\n."]);
        finds(&global, "pickle-import");
        finds(&stack, "pickle-import");
        finds(&inst, "pickle-import");
    }
}

#[test]
fn ways_out_of_the_interpreter_are_critical() {
    assert_eq!(serious(&hostile_pickle())[0].severity, Severity::Critical);
}

#[test]
fn every_way_to_call_is_walked() {
    let import: &[u8] = b"cos\nsystem\n";
    for call in [
        &b"X\x01\x00\x00\x00x\x85R."[..],
        b")\x81.",
        b")}\x92.",
        b"}b.",
        b"q\x000h\x00)R.",
        b"2)R.",
        b")R0N.",
    ] {
        finds(&concat(&[b"\x80\x02", import, call]), "pickle-import");
    }
    finds(b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.", "pickle-import");
}

#[test]
fn names_are_followed_through_memo_and_stack() {
    let memo = concat(&[b"\x80\x04", &text("os"), b"\x940", &text("system"), b"\x940h\x00h\x01\x93)R."]);
    let decoys = concat(&[b"\x80\x04", &text("os"), b"2", b"0", &text("system"), &text("safe"), b"0\x93)R."]);
    let escaped = b"S'o\\x73'\nS'sy\\163tem'\n\x93)R.".to_vec();
    let unicode = b"V\\u006fs\nVsystem\n\x93)R.".to_vec();
    for bytes in [memo, decoys, escaped, unicode] {
        assert!(serious(&bytes)[0].message.contains("os.system"), "{:?}", serious(&bytes));
    }
}

#[test]
fn computed_names_and_calls_are_found() {
    let encode = b"c_codecs\nencode\nX\x02\x00\x00\x00osX\x05\x00\x00\x00ascii\x86R";
    finds(&concat(&[b"\x80\x04", encode, &text("system"), b"\x93)R."]), "pickle-computed-import");
    finds(&concat(&[b"\x80\x04N", &text("system"), b"\x93)R."]), "pickle-computed-import");
    finds(&concat(&[b"\x80\x02", encode, b")R."]), "pickle-computed-call");
    finds(b"\x80\x02\x82\x01)R.", "pickle-extension");
    finds(b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__Nsb.", "pickle-build");
    finds(b"\x80\x02ccollections\nOrderedDict\n}b.", "pickle-build");
    finds(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)RK\x00K\x01s.", "pickle-items");
}

#[test]
fn what_runs_before_an_error_is_found() {
    let hostile = hostile_pickle();
    let payload = &hostile[..hostile.len() - 1];
    for broken in [&b"\xff"[..], b"", b"h\x63.", b"0000.", b"X\xff\xff\xff\x7f", b"\x80\x63."] {
        finds(&concat(&[payload, broken]), "pickle-import");
    }
    finds(b"\x80\x02ccollections\nOrderedDict\n)R\xff", "pickle-broken");
}

#[test]
fn later_streams_are_found() {
    let hostile = hostile_pickle();
    finds(&concat(&[&pickle(), &hostile]), "pickle-import");
    finds(&concat(&[&pickle(), &pickle(), &hostile]), "pickle-import");
    finds(&concat(&[&pickle(), b"some raw bytes \x80\x02 and more", &hostile]), "pickle-import");
    finds(&concat(&[&pickle(), &[0xaa; 99], b"cos\nsystem\n(S'echo nope'\ntR."]), "pickle-import");
    let raw: Vec<u8> = (0..2_000_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    clean(&concat(&[&pickle(), &raw]));
}

#[test]
fn padding_does_not_hide_a_pickle() {
    let padded = concat(&[&b"N0".repeat(60_000), b"cos\nsystem\n(S'echo nope'\ntR."]);
    assert_eq!(scan::scan_file("x", &padded).format, Format::Pickle);
    finds(&padded, "pickle-import");
    let framed = concat(&[b"\x80\x04", &b"N0".repeat(60_000), &text("os"), &text("system"), b"\x93)R."]);
    finds(&framed, "pickle-import");
}

#[test]
fn frames_that_readers_disagree_about_are_found() {
    let straddle = concat(&[b"\x80\x04\x95\x03\0\0\0\0\0\0\0", &text("long constant"), b"."]);
    finds(&straddle, "pickle-frame");
}

#[test]
fn bombs_are_found() {
    let mut laughs = b"\x80\x04]\x94K\x01a".to_vec();
    for level in 0..12_u8 {
        laughs.extend_from_slice(b"]\x94(");
        laughs.extend([b'h', level].repeat(10));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    finds(&laughs, "pickle-bomb");
    finds(b"\x80\x05\x96\0\0\0\0\0\0\0\x10", "pickle-bomb");
    finds(b"\x80\x02Nr\xff\xff\xff\x7f.", "pickle-bomb");
    finds(&concat(&[b"\x80\x02", &b"]".repeat(2000), &b"a".repeat(1999), b"."]), "pickle-bomb");
    finds(b"\x80\x04]\x94(h\x00h\x00e.", "pickle-recursive");
    finds(&concat(&[b"\x80\x02L", &b"9".repeat(100_000), b"L\n."]), "pickle-bomb");
}

#[test]
fn a_truncated_pickle_is_malformed_and_no_attack() {
    let whole = pickle();
    let found = serious(&whole[..whole.len() - 3]);
    assert!(
        !found.is_empty() && found.iter().all(|finding| finding.nature == Nature::Malformed),
        "{found:?}"
    );
}

/// An array as joblib stores it: the numbers stand in the middle of the pickle.
fn joblib(raw: &[u8], after: &[u8]) -> Vec<u8> {
    concat(&[
        b"\x80\x04",
        &text("joblib.numpy_pickle"),
        &text("NumpyArrayWrapper"),
        b"\x93)\x81}(",
        &text("shape"),
        b"K\x04\x85",
        &text("dtype"),
        &text("numpy"),
        &text("dtype"),
        b"\x93",
        &text("f8"),
        b"\x85R",
        &text("numpy_array_alignment_bytes"),
        b"K\x10ub\x03\xff\xff\xff",
        raw,
        after,
    ])
}

#[test]
fn arrays_inside_a_pickle_are_skipped_exactly() {
    clean(&joblib(&[0xff; 32], b"."));
    let call = concat(&[b"0", &text("os"), &text("system"), b"\x93)R."]);
    finds(&joblib(&[0xff; 32], &call), "pickle-import");
    // The array's bytes may spell anything.
    let mut spelled = b"cos\nsystem\n)R.".to_vec();
    spelled.resize(32, 0);
    clean(&joblib(&spelled, b"."));
    finds(&joblib(&[0xff; 31], b"."), "pickle-truncated");
}

#[test]
fn text_that_looks_like_operations_is_text() {
    for source in [
        "class,x,y\ncat,1,2\n",
        "cat\ndog\nbird\n",
        "Version 1\n. Notes\n",
        "(a) first\n(b) second\n",
        "Introduction\nNothing here.\n",
        "0.1,0.2\n0.3,0.4\n",
        "I am a text. Use it.\n",
        "N.B. this is prose",
    ] {
        let scanned = scan::scan_file("x", source.as_bytes());
        assert_eq!(scanned.format, Format::Text, "{source:?}");
        clean(source.as_bytes());
    }
}

#[test]
fn a_file_made_of_findings_ends_the_scan_and_not_the_machine() {
    let many = concat(&[b"\x80\x02", &b"cos\nsystem\n0".repeat(200_000), b"N."]);
    let started = std::time::Instant::now();
    finds(&many, "scan-stopped");
    let found = scan::scan_bytes("x", &many);
    assert!(found.len() <= 101 && found.iter().any(|finding| finding.severity == Severity::Critical));
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn places_that_look_like_pickles_do_not_multiply_the_work() {
    let places = concat(&[&pickle(), &[0xaa], &concat(&[b"\x80\x02", &b"N0".repeat(4000)]).repeat(60)]);
    let many = concat(&[&pickle(), &[0xaa], &b"cccccccc\nx\n(((((((".repeat(20_000)]);
    let started = std::time::Instant::now();
    drop(scan::scan_bytes("x", &places));
    drop(scan::scan_bytes("x", &many));
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
