use super::*;
use crate::onnx::ValueSpec;

fn signature(dims: &[(Option<usize>, Option<&str>)]) -> Signature {
    let spec = ValueSpec {
        name: "x".into(),
        dtype: DType::F32,
        shape: dims.iter().map(|(length, _)| *length).collect(),
        ranked: true,
    };
    let symbols = dims.iter().map(|(_, symbol)| symbol.map(str::to_owned)).collect();
    Signature { inputs: vec![spec.clone()], outputs: vec![spec], symbols: vec![symbols] }
}

fn shape(dims: &[(Option<usize>, Option<&str>)], free: usize) -> Option<Vec<usize>> {
    synthetic(&signature(dims), free).map(|inputs| inputs[0].1.shape().to_vec())
}

#[test]
fn synthetic_inputs_have_the_declared_shape() {
    assert_eq!(shape(&[(None, Some("n")), (Some(3), None), (None, Some("h"))], 8), Some(vec![1, 3, 8]));
    // The batch again, by name: it stays 1 wherever it stands.
    assert_eq!(shape(&[(None, Some("n")), (None, Some("n"))], 8), Some(vec![1, 1]));
    assert_eq!(shape(&[], 8), Some(vec![]));
    assert_eq!(shape(&[(None, None), (Some(usize::MAX), None)], 8), None, "too large to try");
}

#[test]
fn agreement_is_up_to_rounding() {
    let of =
        |values: &[f32]| vec![("y".to_owned(), Tensor::f32(vec![values.len()], values.to_vec()).unwrap())];
    assert!(agree(&of(&[1.0, 100.0]), &of(&[1.5, 100.1])), "relative to the largest value");
    assert!(!agree(&of(&[1.0, 100.0]), &of(&[1.0, 97.0])));
    assert!(agree(&of(&[f32::NAN, 1.0]), &of(&[f32::NAN, 1.0])));
    assert!(!agree(&of(&[f32::NAN]), &of(&[0.0])));
    assert!(!agree(&of(&[1.0]), &of(&[1.0, 1.0])));
    assert!(!agree(&of(&[1.0]), &[]));
}

/// Takes as long as told and answers what it is told.
struct Fake(Duration, f32);

impl Backend for Fake {
    fn run(&mut self, _inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        std::thread::sleep(self.0);
        Ok(vec![("y".into(), Tensor::f32(vec![], vec![self.1])?)])
    }
}

#[test]
fn the_faster_is_kept_unless_the_answers_differ() {
    let fast = || Box::new(Fake(Duration::from_millis(1), 1.0));
    let slow = |answer| Box::new(Fake(Duration::from_millis(20), answer));
    let dims = signature(&[(Some(1), None)]);
    let kept = |rten: Box<Fake>, reference: Box<Fake>| compare(&dims, rten, reference);
    let (kind, measured, _) = kept(fast(), slow(1.0));
    assert_eq!(kind, RuntimeKind::Rten);
    assert_eq!(measured.len(), 2);
    assert!(measured[0].1 < measured[1].1);
    assert_eq!(kept(slow(1.0), fast()).0, RuntimeKind::OnnxRuntime);
    assert_eq!(kept(fast(), slow(2.0)).0, RuntimeKind::OnnxRuntime, "a fast wrong answer is no use");
}
