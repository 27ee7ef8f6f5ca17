use super::*;

#[test]
fn the_output_of_both_programs_is_read() {
    let bench =
        r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 178.5}, {"n_prompt": 0, "n_gen": 128, "avg_ts": 91.2}]"#;
    assert_eq!(read_bench(bench).unwrap(), [(Work::Prompt, 178.5), (Work::Generate, 91.2)]);
    let batched = "loading\n{\"n_kv_max\": 2048, \"pl\": 16, \"speed_pp\": 150.0, \"speed_tg\": 44.4}\n";
    assert_eq!(read_batched(batched).unwrap(), 44.4);
    assert!(read_batched("nothing").is_err());
}
