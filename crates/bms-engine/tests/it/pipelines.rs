//! Pipelines from the raw input to what is told, on graphs small enough to compute by hand.

use bms_data::Image;
use bms_engine::{Engine, Input, oip};
use bms_nn::onnx::proto::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use bms_wire::{
    Activation, AudioInput, BoxLayout, BoxesOutput, BytesInput, Code, Colour, FoundBox, FoundLine,
    LabelsOutput, Layout, LineOutput, LinesOutput, Outcome, PictureInput, PictureStep, Pipeline, Pooled,
    Postprocess, Preprocess, Recogniser, Resampler, SpeechOutput, StateTensor, TextInput, VectorOutput,
};

use crate::models::{self, encode, options, picture, picture_graph, picture_pipeline, verified_with};

fn engine(pre: Preprocess, post: Postprocess, graph: GraphProto, files: Vec<(&str, Vec<u8>)>) -> Engine {
    let pipeline = Pipeline { preprocess: pre, postprocess: post };
    Engine::load(verified_with(pipeline, encode(graph), files), &options()).unwrap()
}

fn outcomes(engine: &Engine, input: Input) -> Vec<Outcome> {
    engine.predict(input).unwrap().into_outcomes().unwrap()
}

fn input(colour: Colour, divisor: f32, steps: Vec<PictureStep>) -> PictureInput {
    PictureInput { steps, colour, layout: Layout::Nchw, divisor, mean: vec![], std: vec![] }
}

fn resize(width: u32, height: u32) -> PictureStep {
    PictureStep::Resize { width, height, resampler: Resampler::OpencvLinear }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn steps_give_what_the_plain_picture_input_gives() {
    let plain = models::load(picture_pipeline(), picture_graph(), &options()).unwrap();
    let side = models::SIDE as u32;
    let mut steps = input(Colour::Grey, 255.0, vec![resize(side, side)]);
    (steps.mean, steps.std) = (vec![0.5], vec![0.25]);
    let labels =
        LabelsOutput { labels: names(&["a", "b", "c"]), activation: Activation::Softmax, top: Some(2) };
    let stepped = engine(Preprocess::Picture(steps), Postprocess::Labels(labels), picture_graph(), vec![]);
    assert_ne!(stepped.joined_rows_max(), 0, "pictures of one size are joined");
    for index in 0..5 {
        let png = picture(index).encode_png().unwrap();
        let all = plain.predict(Input::Images(vec![png.clone()])).unwrap().classes.unwrap();
        let best = stepped.predict(Input::Images(vec![png])).unwrap().classes.unwrap();
        assert_eq!(best[0].ranked, all[0].ranked[..2]);
    }
}

/// A detector that reads its candidates off the picture: `[n, 3, 2, w]` is `[n, 6, w]`, and the last two features, the
/// scores, are pixels over 255.
fn detector() -> GraphProto {
    GraphProto {
        node: vec![
            NodeProto::new("Reshape", "flat", &["image", "shape"], &["features"]),
            NodeProto::new("Mul", "scaled", &["features", "scale"], &["candidates"]),
        ],
        initializer: vec![
            TensorProto::i64("shape", &[3], &[0, 6, -1]),
            TensorProto::f32("scale", &[1, 6, 1], &[1.0, 1.0, 1.0, 1.0, 1.0 / 255.0, 1.0 / 255.0]),
        ],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &[Err("n"), Ok(3), Ok(2), Ok(64)])],
        output: vec![ValueInfoProto::tensor("candidates", DataType::Float, &[Err("n"), Ok(6), Ok(64)])],
        ..GraphProto::default()
    }
}

/// A picture of 256 by 256 whose blocks of 4 columns and halves of rows are these features of candidates.
fn candidates(list: &[[u8; 6]]) -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..256 {
        for x in 0..256 {
            let features = list.get(x / 4).copied().unwrap_or_default();
            pixels.extend((0..3).map(|channel| features[2 * channel + y / 128]));
        }
    }
    Image::new(256, 256, 3, pixels).unwrap().encode_png().unwrap()
}

#[test]
fn boxes_that_overlap_are_one_and_lie_in_the_original() {
    let boxes = BoxesOutput {
        layout: BoxLayout::YoloV8,
        labels: names(&["cat", "dog"]),
        score_min: 0.3,
        overlap_max: 0.5,
        across_labels: false,
        boxes_max: 3,
    };
    let pre = Preprocess::Picture(input(Colour::Rgb, 1.0, vec![resize(64, 2)]));
    let engine = engine(pre, Postprocess::Boxes(boxes), detector(), vec![]);
    let png = candidates(&[
        [32, 1, 16, 2, 204, 0],
        [34, 1, 16, 2, 255, 51],
        // Of the other label, so it stays; the one after it is too weak, the one after that overlaps too little.
        [33, 1, 16, 2, 0, 153],
        [10, 1, 4, 2, 51, 51],
        [45, 1, 16, 2, 102, 0],
        // A fourth is one too many.
        [60, 1, 4, 2, 0, 90],
    ]);
    let found = |label: &str, score, left, right| FoundBox {
        label: label.to_owned(),
        score,
        left,
        top: 0.0,
        right,
        bottom: 256.0,
    };
    let boxes = vec![
        found("cat", 1.0, 104.0, 168.0),
        found("dog", 0.6, 100.0, 164.0),
        found("cat", 0.4, 148.0, 212.0),
    ];
    let expected = Outcome::Boxes { width: 256, height: 256, boxes };
    let answer = engine.predict(Input::Images(vec![png.clone()])).unwrap();
    let Outcome::Boxes { boxes: got, .. } = &answer.found.as_ref().unwrap()[0] else { panic!() };
    assert_eq!(
        got.iter().map(|b| (b.label.as_str(), b.left, b.right)).collect::<Vec<_>>(),
        [("cat", 104.0, 168.0), ("dog", 100.0, 164.0), ("cat", 148.0, 212.0)]
    );
    let Outcome::Boxes { boxes: want, .. } = &expected else { panic!() };
    assert!(got.iter().zip(want).all(|(a, b)| (a.score - b.score).abs() < 1e-6 && a.bottom == b.bottom));
    // By the protocol: only what was found, unless the raw output is named.
    let response =
        oip::answer_to_response(engine.describe(), answer.clone(), &Default::default(), None).unwrap();
    let outputs: Vec<_> = response.head.outputs.iter().map(|o| (o.name.as_str(), o.shape.clone())).collect();
    assert_eq!(outputs, [("row", vec![3]), ("label", vec![3]), ("score", vec![3]), ("box", vec![3, 4])]);
    // Drawn: the picture has the same size, and is not the same.
    let drawn = Image::decode(&bms_engine::drawn(&png, &answer.found.unwrap()[0]).unwrap()).unwrap();
    assert_eq!((drawn.width, drawn.height), (256, 256));
    assert_ne!(drawn, Image::decode(&png).unwrap());
}

/// `[1, len]` tokens to `[1, len, 2]` states: the token's number and one.
fn embedder() -> GraphProto {
    let rows: Vec<f32> = (0..8).flat_map(|token| [token as f32, 1.0]).collect();
    GraphProto {
        node: vec![NodeProto::new("Gather", "gather", &["table", "input_ids"], &["states"])],
        initializer: vec![TensorProto::f32("table", &[8, 2], &rows)],
        input: vec![ValueInfoProto::tensor("input_ids", DataType::Int64, &[Err("n"), Err("len")])],
        output: vec![ValueInfoProto::tensor("states", DataType::Float, &[Err("n"), Err("len"), Ok(2)])],
        ..GraphProto::default()
    }
}

const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
    "pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":null,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7},"unk_token":"[UNK]"}}"#;

#[test]
fn texts_of_any_length_become_vectors() {
    let text = TextInput {
        tokenizer: "tokenizer.json".into(),
        tokens_max: 4,
        pad: 7,
        ids: "input_ids".into(),
        mask: None,
        types: None,
    };
    let load = |pooling, normalise| {
        let post = Postprocess::Vector(VectorOutput { pooling, normalise });
        engine(Preprocess::Text(text.clone()), post, embedder(), vec![("tokenizer.json", TOKENIZER.into())])
    };
    let texts = Input::Texts(vec!["c d e".into(), "b".into(), "a b c d e f".into()]);
    let vectors = |engine: &Engine| -> Vec<Vec<f32>> {
        let vector = |outcome| match outcome {
            Outcome::Vector { vector } => vector,
            other => panic!("{other:?}"),
        };
        outcomes(engine, texts.clone()).into_iter().map(vector).collect()
    };
    // The padding of the short ones does not count, and the long one is cut after four tokens.
    assert_eq!(vectors(&load(Pooled::Mean, false)), [[4.0, 1.0], [2.0, 1.0], [2.5, 1.0]]);
    assert_eq!(vectors(&load(Pooled::First, false)), [[3.0, 1.0], [2.0, 1.0], [1.0, 1.0]]);
    for vector in vectors(&load(Pooled::Mean, true)) {
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6, "{vector:?}");
    }
    let refused = load(Pooled::Mean, false).predict(Input::Images(vec![vec![]])).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidInput);
}

#[test]
fn the_ends_of_files_are_classified() {
    let graph = GraphProto {
        node: vec![
            NodeProto::new("Cast", "cast", &["bytes"], &["x"]).with(AttributeProto::int("to", 1)),
            NodeProto::new("MatMul", "matmul", &["x", "w"], &["scores"]),
        ],
        initializer: vec![TensorProto::f32("w", &[4, 2], &[0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01])],
        input: vec![ValueInfoProto::tensor("bytes", DataType::Int32, &[Err("n"), Ok(4)])],
        output: vec![ValueInfoProto::tensor("scores", DataType::Float, &[Err("n"), Ok(2)])],
        ..GraphProto::default()
    };
    let bytes = BytesInput { head: 2, tail: 2, block: 8, pad: 256, bytes_min: 2 };
    let labels = LabelsOutput { labels: names(&["first", "last"]), activation: Activation::None, top: None };
    let engine = engine(Preprocess::Bytes(bytes), Postprocess::Labels(labels), graph, vec![]);
    let best = |file: &[u8]| {
        let answer = engine.predict(Input::Files(vec![file.to_vec()])).unwrap();
        let (label, score) = answer.classes.unwrap()[0].ranked[0].clone();
        assert!((score - 1.22).abs() < 1e-6, "{score}");
        label
    };
    assert_eq!(best(b"z...a"), "first");
    assert_eq!(best(b"  a....z\n"), "last");
    assert_eq!(engine.predict(Input::Files(vec![vec![1]])).unwrap_err().code(), Code::InvalidInput);
}

/// `state' = state / 2 + mean(samples)`, which is also the probability.
fn listener() -> GraphProto {
    GraphProto {
        node: vec![
            NodeProto::new("ReduceMean", "mean", &["input"], &["m"])
                .with(AttributeProto::ints("axes", &[1]))
                .with(AttributeProto::int("keepdims", 1)),
            NodeProto::new("Mul", "half", &["state", "h"], &["s"]),
            NodeProto::new("Add", "next", &["s", "m"], &["stateN"]),
            NodeProto::new("Add", "twice", &["stateN", "zero"], &["output"]),
        ],
        initializer: vec![TensorProto::f32("h", &[1], &[0.5]), TensorProto::f32("zero", &[1], &[0.0])],
        input: vec![
            ValueInfoProto::tensor("input", DataType::Float, &[Ok(1), Err("samples")]),
            ValueInfoProto::tensor("state", DataType::Float, &[Ok(1), Ok(1)]),
        ],
        output: vec![
            ValueInfoProto::tensor("output", DataType::Float, &[Ok(1), Ok(1)]),
            ValueInfoProto::tensor("stateN", DataType::Float, &[Ok(1), Ok(1)]),
        ],
        ..GraphProto::default()
    }
}

/// A WAV file of 16 bits.
fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[test]
fn a_recording_is_heard_in_windows_with_its_state() {
    let audio = AudioInput {
        sample_rate: 1000,
        window: 6,
        context: 2,
        samples: "input".into(),
        rate: None,
        state: vec![StateTensor { input: "state".into(), output: "stateN".into(), shape: vec![1, 1] }],
    };
    let speech = SpeechOutput { threshold: 0.5, speech_ms: 5, silence_ms: 5, pad_ms: 0 };
    let engine = engine(Preprocess::Audio(audio), Postprocess::Speech(speech), listener(), vec![]);
    // Twelve samples of one half, twelve of silence, one more.
    let samples: Vec<i16> = [vec![16_384; 12], vec![0; 12], vec![16_384]].concat();
    let told = outcomes(&engine, Input::Files(vec![wav(1000, &samples)]));
    let Outcome::Speech { seconds, window_seconds, segments, probabilities } = &told[0] else { panic!() };
    assert_eq!((*seconds, *window_seconds), (0.025, 0.006));
    let means = [0.5 * 6.0 / 8.0, 0.5, 0.5 * 2.0 / 8.0, 0.0, 0.5 / 8.0];
    let mut state = 0.0f32;
    for (probability, mean) in probabilities.iter().zip(means) {
        state = state / 2.0 + mean;
        assert!((probability - state).abs() < 1e-6, "{probability} {state}");
    }
    assert_eq!(probabilities.len(), 5);
    // Over the threshold in the second window, below it less 0.15 from the fourth on.
    assert_eq!(segments.iter().map(|s| (s.start, s.end)).collect::<Vec<_>>(), [(0.006, 0.018)]);
    // Each request begins anew.
    assert_eq!(outcomes(&engine, Input::Files(vec![wav(1000, &samples)])), told);
    for bad in [wav(2000, &samples), b"RIFF".to_vec(), vec![]] {
        assert_eq!(engine.predict(Input::Files(vec![bad])).unwrap_err().code(), Code::InvalidInput);
    }
}

/// The map is the picture itself.
fn finder() -> GraphProto {
    let any = [Ok(1), Ok(1), Err("h"), Err("w")];
    GraphProto {
        node: vec![NodeProto::new("Identity", "same", &["image"], &["map"])],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &any)],
        output: vec![ValueInfoProto::tensor("map", DataType::Float, &any)],
        ..GraphProto::default()
    }
}

/// The three rows of a picture are the probabilities of blank, a and b.
fn reader() -> GraphProto {
    GraphProto {
        node: vec![
            NodeProto::new("Transpose", "columns", &["image"], &["t"])
                .with(AttributeProto::ints("perm", &[0, 3, 1, 2])),
            NodeProto::new("Reshape", "flat", &["t", "shape"], &["line"]),
        ],
        initializer: vec![TensorProto::i64("shape", &[3], &[1, -1, 3])],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &[Ok(1), Ok(1), Ok(3), Err("w")])],
        output: vec![ValueInfoProto::tensor("line", DataType::Float, &[Ok(1), Err("steps"), Ok(3)])],
        ..GraphProto::default()
    }
}

fn lines_output(threshold: f32) -> LinesOutput {
    let line = PictureStep::ResizeLine {
        height: 3,
        width_min: 1,
        width_max: 100,
        resampler: Resampler::PillowBilinear,
    };
    LinesOutput {
        threshold,
        region_min: 0.4,
        unclip: 0.0,
        regions_max: 10,
        recognise: Recogniser {
            model: "recognise.onnx".into(),
            picture: input(Colour::Grey, 255.0, vec![line]),
            line: LineOutput { characters: names(&["a", "b"]) },
            score_min: 0.5,
        },
    }
}

#[test]
fn lines_are_found_cut_out_and_read_by_a_second_graph() {
    // Two regions of 40 by 19, brightest in the middle or the lower third.
    let mut image = Image::new(120, 60, 1, vec![0; 120 * 60]).unwrap();
    let mut region = |left: usize, top: usize, thirds: [u8; 3]| {
        for y in 0..19 {
            image.pixels[(top + y) * 120 + left..][..40].fill(thirds[y * 3 / 19]);
        }
    };
    region(70, 5, [150, 160, 250]);
    region(10, 8, [150, 250, 160]);
    region(30, 39, [150, 160, 250]);
    let png = image.encode_png().unwrap();
    let pre = Preprocess::Picture(input(Colour::Grey, 255.0, vec![]));
    let files = vec![("recognise.onnx", encode(reader()))];
    let engine = engine(pre, Postprocess::Lines(lines_output(0.3)), finder(), files);
    let told = outcomes(&engine, Input::Images(vec![png.clone()]));
    let Outcome::Lines { width, height, text, lines } = &told[0] else { panic!() };
    assert_eq!((*width, *height, text.as_str()), (120, 60, "a\nb\nb"));
    let corners = |line: &FoundLine| line.corners;
    assert_eq!(corners(&lines[0]), [[10.0, 8.0], [49.0, 8.0], [49.0, 26.0], [10.0, 26.0]]);
    assert!(lines.iter().all(|line| 0.8 < line.score && line.score <= 1.0), "{lines:?}");
    let refused = engine.predict(Input::Tensors(vec![])).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidInput);
    // As tensors by the protocol.
    let answer = engine.predict(Input::Images(vec![png.clone(), png])).unwrap();
    let response = oip::answer_to_response(engine.describe(), answer, &Default::default(), None).unwrap();
    let shapes: Vec<_> = response.head.outputs.iter().map(|o| (o.name.as_str(), o.shape.clone())).collect();
    assert_eq!(
        shapes,
        [
            ("text", vec![2]),
            ("row", vec![6]),
            ("line", vec![6]),
            ("score", vec![6]),
            ("corners", vec![6, 4, 2])
        ]
    );
}

#[test]
fn a_pipeline_that_does_not_fit_its_graph_is_refused() {
    let refused = |pre: Preprocess, post: Postprocess, graph: GraphProto, files: Vec<(&str, Vec<u8>)>| {
        let pipeline = Pipeline { preprocess: pre, postprocess: post };
        Engine::load(verified_with(pipeline, encode(graph), files), &options()).unwrap_err()
    };
    let picture = |width| Preprocess::Picture(input(Colour::Rgb, 1.0, vec![resize(width, 2)]));
    let boxes = |labels: &[&str]| {
        Postprocess::Boxes(BoxesOutput {
            layout: BoxLayout::YoloV8,
            labels: names(labels),
            score_min: 0.3,
            overlap_max: 0.5,
            across_labels: false,
            boxes_max: 3,
        })
    };
    for (pre, post) in [(picture(32), boxes(&["cat", "dog"])), (picture(64), boxes(&["cat"]))] {
        assert_eq!(refused(pre, post, detector(), vec![]).code(), Code::InvalidBundle);
    }
    let grey = || Preprocess::Picture(input(Colour::Grey, 255.0, vec![]));
    let mut lines = lines_output(0.3);
    lines.recognise.line.characters.push("c".into());
    let files = vec![("recognise.onnx", encode(reader()))];
    let error = refused(grey(), Postprocess::Lines(lines), finder(), files);
    assert_eq!(error.code(), Code::InvalidBundle);
    assert!(error.to_string().contains("3 characters"), "{error}");
}
