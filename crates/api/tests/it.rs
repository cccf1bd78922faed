//! The rules of the CRDs: a wrong manifest is refused at apply, with a message that names the field.

#[cfg(test)]
mod it {
    mod rules;
    mod shape;
}
