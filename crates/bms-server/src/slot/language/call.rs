//! One call of a function as a model writes it, read character by character so that its arguments can be
//! passed on while they are still being written.

/// Bytes of a call's name or of an ignored value that are read before it is given up.
const HELD_BYTES_MAX: usize = 64 << 10;

/// What a character of a call told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The function is known; arguments follow.
    Begins(String),
    /// More text of the arguments.
    Arguments(String),
    /// The call is whole. The character that told so belongs to it.
    Ends,
}

/// The text is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads one call.
#[derive(Clone, Debug)]
pub(super) struct CallReader {
    place: Place,
    name: Option<String>,
    /// Arguments that came before the name, or that are not passed on before they are whole.
    held: String,
    arguments_begun: bool,
}

#[derive(Clone, Debug)]
enum Place {
    /// Before the object.
    Start,
    /// Before a key, or the object's end.
    Key,
    /// In a key.
    InKey(Text),
    /// Between a key and its value.
    Colon(Field),
    /// In a value.
    Value(Field, Value),
    /// After a value.
    Comma,
    /// The arguments alone, the name being known.
    Bare(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    Other,
}

impl CallReader {
    /// Of an object with a name and arguments.
    pub(super) fn of_object() -> Self {
        CallReader { place: Place::Start, name: None, held: String::new(), arguments_begun: false }
    }

    /// Of the arguments of a function whose name was read already.
    pub(super) fn of_arguments(name: &str) -> Self {
        CallReader {
            place: Place::Bare(Value::default()),
            name: Some(name.to_owned()),
            held: String::new(),
            arguments_begun: true,
        }
    }

    /// The function, once it is known.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char, told: &mut Vec<Told>) -> Result<(), Malformed> {
        let place = std::mem::replace(&mut self.place, Place::Comma);
        self.place = match place {
            Place::Start if c.is_whitespace() => Place::Start,
            Place::Start if c == '{' => Place::Key,
            Place::Key if c.is_whitespace() || c == ',' => Place::Key,
            Place::Key if c == '"' => Place::InKey(Text::default()),
            Place::Key | Place::Comma if c == '}' => {
                self.end(told)?;
                Place::Comma
            }
            Place::Comma if c.is_whitespace() => Place::Comma,
            Place::Comma if c == ',' => Place::Key,
            Place::InKey(mut key) => match key.push(c)? {
                false => Place::InKey(key),
                true => Place::Colon(field(&key.text)),
            },
            Place::Colon(field) if c.is_whitespace() => Place::Colon(field),
            Place::Colon(field) if c == ':' => Place::Value(field, Value::default()),
            Place::Value(field, value) => self.value(field, value, c, told)?,
            Place::Bare(value) => self.bare(value, c, told)?,
            Place::Start | Place::Key | Place::Comma | Place::Colon(_) => return Err(Malformed),
        };
        Ok(())
    }

    fn value(
        &mut self,
        field: Field,
        mut value: Value,
        c: char,
        told: &mut Vec<Told>,
    ) -> Result<Place, Malformed> {
        let step = value.push(c)?;
        if step != Step::EndedBefore && value.has_begun() {
            self.keep(field, &value, c, told)?;
        }
        match step {
            Step::More => return Ok(Place::Value(field, value)),
            Step::EndedWith | Step::EndedBefore => self.value_ended(field, told)?,
        }
        match (step, c) {
            (Step::EndedBefore, '}') => {
                self.end(told)?;
                Ok(Place::Comma)
            }
            (Step::EndedBefore, ',') => Ok(Place::Key),
            _ => Ok(Place::Comma),
        }
    }

    /// Passes a character of a value on, or keeps it until the value is whole.
    fn keep(&mut self, field: Field, value: &Value, c: char, told: &mut Vec<Told>) -> Result<(), Malformed> {
        match field {
            Field::Other => return Ok(()),
            Field::Arguments if self.name.is_some() && value.is_object => {
                self.begin(told);
                self.held.push(c);
                told.push(Told::Arguments(std::mem::take(&mut self.held)));
                return Ok(());
            }
            Field::Arguments | Field::Name => self.held.push(c),
        }
        if HELD_BYTES_MAX < self.held.len() && field == Field::Name {
            return Err(Malformed);
        }
        Ok(())
    }

    fn value_ended(&mut self, field: Field, told: &mut Vec<Told>) -> Result<(), Malformed> {
        match field {
            Field::Other => {}
            Field::Name => {
                // Arguments may have come first: then they were kept before the name.
                let at = self.held.rfind(NAME_MARK).map_or(0, |at| at + NAME_MARK.len_utf8());
                let name = serde_json::from_str(&self.held[at..]).map_err(|_| Malformed)?;
                self.held.truncate(at.saturating_sub(NAME_MARK.len_utf8()));
                self.name = Some(name);
                if !self.held.is_empty() {
                    self.arguments_whole(told)?;
                }
            }
            Field::Arguments if self.arguments_begun => {}
            Field::Arguments if self.name.is_some() => self.arguments_whole(told)?,
            Field::Arguments => self.held.push(NAME_MARK),
        }
        Ok(())
    }

    /// Tells arguments that were kept: the text of an object, or a string that holds one.
    fn arguments_whole(&mut self, told: &mut Vec<Told>) -> Result<(), Malformed> {
        let kept = std::mem::take(&mut self.held);
        let text = match serde_json::from_str::<serde_json::Value>(&kept) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(serde_json::Value::Null) => "{}".to_owned(),
            Ok(_) => kept,
            Err(_) => return Err(Malformed),
        };
        self.begin(told);
        told.push(Told::Arguments(text));
        Ok(())
    }

    fn bare(&mut self, mut value: Value, c: char, told: &mut Vec<Told>) -> Result<Place, Malformed> {
        let step = value.push(c)?;
        if value.has_begun() {
            if !value.is_object {
                return Err(Malformed);
            }
            told.push(Told::Arguments(c.to_string()));
        }
        if step == Step::EndedWith {
            told.push(Told::Ends);
        }
        Ok(Place::Bare(value))
    }

    fn begin(&mut self, told: &mut Vec<Told>) {
        if !self.arguments_begun {
            self.arguments_begun = true;
            told.push(Told::Begins(self.name.clone().unwrap_or_default()));
        }
    }

    fn end(&mut self, told: &mut Vec<Told>) -> Result<(), Malformed> {
        if self.name.is_none() {
            return Err(Malformed);
        }
        if !self.arguments_begun {
            self.begin(told);
            told.push(Told::Arguments("{}".to_owned()));
        }
        told.push(Told::Ends);
        Ok(())
    }
}

/// Divides arguments that came first from the name that follows: JSON text has no such character.
const NAME_MARK: char = '\u{0}';

fn field(key: &str) -> Field {
    match key {
        "name" => Field::Name,
        "arguments" | "parameters" => Field::Arguments,
        _ => Field::Other,
    }
}

/// A JSON string being read, after its opening quote.
#[derive(Clone, Debug, Default)]
struct Text {
    text: String,
    escaped: bool,
}

impl Text {
    /// Whether the string has ended. Keys with escapes are none that matter here.
    fn push(&mut self, c: char) -> Result<bool, Malformed> {
        if !self.escaped && c == '"' {
            return Ok(true);
        }
        self.escaped = !self.escaped && c == '\\';
        self.text.push(c);
        if HELD_BYTES_MAX < self.text.len() { Err(Malformed) } else { Ok(false) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    EndedWith,
    /// Numbers and words end where something else begins.
    EndedBefore,
}

/// Finds the end of a JSON value.
#[derive(Clone, Debug, Default)]
struct Value {
    begun: bool,
    is_object: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Value {
    fn has_begun(&self) -> bool {
        self.begun
    }

    fn push(&mut self, c: char) -> Result<Step, Malformed> {
        if !self.begun && c.is_whitespace() {
            return Ok(Step::More);
        }
        if !self.begun {
            self.begun = true;
            self.is_object = c == '{';
        }
        if self.in_string {
            if !self.escaped && c == '"' {
                self.in_string = false;
                return Ok(if self.depth == 0 { Step::EndedWith } else { Step::More });
            }
            self.escaped = !self.escaped && c == '\\';
            return Ok(Step::More);
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' if self.depth == 0 => return Ok(Step::EndedBefore),
            '}' | ']' => {
                self.depth -= 1;
                return Ok(if self.depth == 0 { Step::EndedWith } else { Step::More });
            }
            ',' if self.depth == 0 => return Ok(Step::EndedBefore),
            c if self.depth == 0 && c.is_whitespace() => return Ok(Step::EndedBefore),
            _ => {}
        }
        Ok(Step::More)
    }
}

#[cfg(test)]
mod tests;
