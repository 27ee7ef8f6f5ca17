use bms_wire::Code;
use bms_wire::api::{KeyUsage, Quota};
use clap::Parser;

use super::{LimitOptions, ModelLimit, model_limit, quota_cells, time};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    limits: LimitOptions,
}

#[test]
fn times_have_a_unit() {
    assert_eq!(time("90d"), Ok(90 * 24 * 3600));
    assert_eq!((time("12h"), time("30m"), time("5s"), time("0")), (Ok(43_200), Ok(1800), Ok(5), Ok(0)));
    for bad in ["", "d", "90", "-1d", "1w", "99999999999999999999d", "9999999999999999999d"] {
        assert!(time(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_limit_of_a_model_says_which() {
    let limit =
        |model: &str, limit: &str, most| Ok(ModelLimit { model: model.into(), limit: limit.into(), most });
    assert_eq!(model_limit("big:tokens-per-minute=20000"), limit("big", "tokens_per_minute", 20_000));
    assert_eq!(model_limit("a.b-1:concurrent=0"), limit("a.b-1", "concurrent", 0));
    for bad in [
        "",
        "big",
        "big:tokens-per-day",
        ":concurrent=1",
        "big:tokens_per_day=1",
        "big:tokens-per-year=1",
        "big:concurrent=x",
    ] {
        assert!(model_limit(bad).is_err(), "{bad}");
    }
    let set = |args: &[&str]| Line::parse_from(std::iter::once(&"bms").chain(args)).limits.set();
    let twice = ["--limit", "big:concurrent=1", "--limit", "big:concurrent=2"];
    assert_eq!(set(&twice).unwrap_err().code(), Code::InvalidRequest);
    let both = set(&[
        "--limit",
        "big:concurrent=1",
        "--limit",
        "big:requests-per-month=2",
        "--tokens-per-month",
        "9",
    ])
    .unwrap();
    assert_eq!(
        (both.per_model["big"].concurrent, both.per_model["big"].requests_per_month),
        (Some(1), Some(2))
    );
    assert_eq!((both.tokens_per_month, both.per_model.len()), (Some(9), 1));
}

#[test]
fn a_list_says_what_was_used_and_the_limits_there_are() {
    let used = KeyUsage { requests_today: 3, requests_this_month: 4, ..KeyUsage::default() };
    let quota = Quota { requests_per_month: Some(5), tokens_per_minute: Some(100), ..Quota::default() };
    assert_eq!(
        quota_cells(&quota, &used),
        ["3 today\n4 of 5 this month", "0 today\n0 this month\n100 a minute"]
    );
    let quota = Quota { concurrent: Some(2), requests_per_minute: Some(9), ..quota };
    assert_eq!(quota_cells(&quota, &used)[0], "3 today\n4 of 5 this month\n9 a minute\n2 at a time");
}
