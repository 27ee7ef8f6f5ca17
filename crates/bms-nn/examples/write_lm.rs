//! Writes a small language model with random weights whose tokens are bytes: `write_lm FILE [WIDTH LAYERS CONTEXT]`.
//!
//! It says nothing that means anything, always the same at temperature 0, and takes little to compute.

#[path = "../../bms-server/tests/it/random_model.rs"]
mod random_model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the file to write")?;
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (width, layers, context) = (number(128)?, number(4)?, number(2048)?);
    random_model::write(path.as_ref(), random_model::Size { width, layers, context: context.try_into()? });
    Ok(())
}
