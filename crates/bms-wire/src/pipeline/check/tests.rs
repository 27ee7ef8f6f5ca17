use super::*;

/// A pipeline in JSON, and whether it is refused with these words.
#[track_caller]
fn check(json: &str, refused: Option<&str>) {
    let pipeline: Result<Pipeline> =
        serde_json::from_str(json).map_err(|e| Error::new(Code::InvalidBundle, e.to_string()));
    match (pipeline.and_then(|pipeline| pipeline.check()), refused) {
        (Ok(()), None) => {}
        (Ok(()), Some(words)) => panic!("taken, though {words}"),
        (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
        (Err(error), None) => panic!("{error}"),
    }
}

const LABELS: &str = r#"{"kind":"labels","labels":["a","a","b"],"top":2}"#;

#[track_caller]
fn picture(steps: &str, more: &str, refused: Option<&str>) {
    check(
        &format!(r#"{{"preprocess":{{"kind":"picture","steps":[{steps}]{more}}},"postprocess":{LABELS}}}"#),
        refused,
    );
}

#[test]
fn steps_of_pictures() {
    let resize = r#"{"step":"resize","width":224,"height":224,"resampler":"pillow_bicubic"}"#;
    picture(resize, "", None);
    picture(resize, r#","mean":[0.1,0.2,0.3],"std":[1,1,1],"colour":"bgr","layout":"nhwc""#, None);
    picture(resize, r#","mean":[0.1]"#, Some("3 channels come with 1 means"));
    picture(resize, r#","std":[1,0,1]"#, Some("above zero"));
    picture(resize, r#","divisor":0"#, Some("above zero"));
    picture(resize, r#","code":"import os""#, Some("unknown field"));
    picture(r#"{"step":"python","source":"x"}"#, "", Some("unknown variant"));
    picture(r#"{"step":"center_crop","width":0,"height":2}"#, "", Some("a side of 0"));
    picture(r#"{"step":"center_crop","width":1,"height":2,"left":1}"#, "", Some("unknown field"));
    picture(r#"{"step":"center_crop","width":16384,"height":16384}"#, "", Some("16384x16384"));
    let line =
        r#"{"step":"resize_line","height":48,"width_min":320,"width_max":100,"resampler":"opencv_linear"}"#;
    picture(line, "", Some("at least 320"));
    picture(&[resize; 17].join(","), "", Some("17 steps"));
}

#[test]
fn both_sides_must_fit() {
    let audio = r#"{"kind":"audio","sample_rate":16000,"window":512,"samples":"input"}"#;
    let speech = r#"{"kind":"speech","threshold":0.5,"speech_ms":250,"silence_ms":100,"pad_ms":30}"#;
    check(&format!(r#"{{"preprocess":{audio},"postprocess":{speech}}}"#), None);
    check(&format!(r#"{{"preprocess":{audio},"postprocess":{LABELS}}}"#), Some("does not fit"));
    check(&format!(r#"{{"preprocess":{{"kind":"tensor"}},"postprocess":{speech}}}"#), Some("does not fit"));
    let text = r#"{"kind":"text","tokenizer":"tokenizer.json","tokens_max":256}"#;
    check(&format!(r#"{{"preprocess":{text},"postprocess":{{"kind":"vector"}}}}"#), None);
    let bytes = r#"{"kind":"bytes","head":4,"tail":4,"block":2,"pad":256}"#;
    check(&format!(r#"{{"preprocess":{bytes},"postprocess":{LABELS}}}"#), Some("blocks of 2 bytes"));
    let boxes = r#"{"kind":"boxes","layout":"yolo_v8","labels":["x"],"score_min":2,"overlap_max":0.5,"boxes_max":10}"#;
    check(
        &format!(r#"{{"preprocess":{{"kind":"picture","steps":[]}},"postprocess":{boxes}}}"#),
        Some("score_min"),
    );
}

#[test]
fn tops_and_names() {
    let pre = r#"{"kind":"picture","steps":[]}"#;
    for (labels, words) in [
        (r#"{"kind":"labels","labels":[]}"#, "0 labels"),
        (r#"{"kind":"labels","labels":["a",""]}"#, "is empty"),
        (r#"{"kind":"labels","labels":["a"],"top":2}"#, "top 2 of 1"),
        (r#"{"kind":"labels","labels":["a"],"top":0}"#, "top 0 of 1"),
    ] {
        check(&format!(r#"{{"preprocess":{pre},"postprocess":{labels}}}"#), Some(words));
    }
}
