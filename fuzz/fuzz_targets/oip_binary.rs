//! Requests of the Open Inference Protocol with tensors in binary form: any bytes are a request or a refusal, never a panic;
//! what is taken lies within the body, each byte in one tensor.

#![no_main]

use bms_wire::oip::binary;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (Option<u16>, &[u8])| {
    let (head_bytes, body) = input;
    let head_bytes = head_bytes.map(usize::from);
    if let Ok((request, places)) = binary::read_request::<Value>(body, head_bytes) {
        assert_eq!(request.inputs.len(), places.len());
        let mut at = head_bytes.unwrap_or(body.len());
        for (tensor, place) in request.inputs.iter().zip(places) {
            let Some(place) = place else { continue };
            assert_eq!(place.start, at);
            at = place.end;
            let count = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
            if let (Some(bytes), Some(count)) = (body.get(place), count) {
                let _ = binary::elements(bytes, count);
            }
        }
        assert_eq!(at, body.len());
    }
    let _ = binary::read_response(body, head_bytes);
    let _ = binary::header_length(body);
});
