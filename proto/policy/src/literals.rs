//! What policies name: the texts and numbers that they compare facts with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The texts and numbers in policies, by the attribute that they are compared with, as `context.builders`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Literals {
    pub(crate) texts: BTreeMap<String, BTreeSet<String>>,
    pub(crate) numbers: BTreeMap<String, BTreeSet<u64>>,
    /// Type and id of entities, wherever they stand.
    pub(crate) entities: BTreeSet<(String, String)>,
    /// Attributes that are asked for at all.
    pub(crate) asked: BTreeSet<String>,
    /// Attributes that are asked for in another way than by comparing them with something written out: what they are
    /// compared with is not among `texts`.
    pub(crate) indirect: BTreeSet<String>,
    /// Texts and numbers of any kind.
    pub(crate) all: BTreeSet<String>,
}

impl Literals {
    /// Of a policy in Cedar's JSON format, whose depth is bounded.
    pub(crate) fn of(policy: &Value) -> Self {
        let mut literals = Self::default();
        literals.walk(policy);
        literals
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (attribute, texts) in &other.texts {
            self.texts.entry(attribute.clone()).or_default().extend(texts.iter().cloned());
        }
        for (attribute, numbers) in &other.numbers {
            self.numbers.entry(attribute.clone()).or_default().extend(numbers);
        }
        self.entities.extend(other.entities.iter().cloned());
        self.asked.extend(other.asked.iter().cloned());
        self.indirect.extend(other.indirect.iter().cloned());
        self.all.extend(other.all.iter().cloned());
    }

    /// What an attribute is compared with, in order.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        self.texts.get(attribute).into_iter().flatten().map(String::as_str)
    }

    fn walk(&mut self, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                if let (Some(kind), Some(id)) = (text(node, "type"), text(node, "id")) {
                    self.entities.insert((kind.to_owned(), id.to_owned()));
                    self.all.insert(id.to_owned());
                }
                if let Some(attribute) = attribute(node) {
                    self.asked.insert(attribute.clone());
                    self.indirect.insert(attribute);
                    return;
                }
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("Value", Value::String(_) | Value::Number(_)) => {
                            self.all.insert(value.to_string());
                        }
                        // Its fields may be called `left` and `right`, as operands are.
                        ("Record", Value::Object(fields)) => {
                            fields.values().for_each(|field| self.walk(field))
                        }
                        _ => self.operator(value),
                    }
                }
            }
            _ => {}
        }
    }

    /// The operands of an operator, or any other part of a policy.
    fn operator(&mut self, value: &Value) {
        let (Some(left), Some(right)) = (value.get("left"), value.get("right")) else {
            return self.walk(value);
        };
        for (one, other) in [(left, right), (right, left)] {
            match attribute(one) {
                Some(attribute) if is_written_out(other) => {
                    self.asked.insert(attribute.clone());
                    self.compared(&attribute, other);
                }
                _ => self.walk(one),
            }
        }
    }

    fn compared(&mut self, attribute: &str, with: &Value) {
        match with {
            Value::Array(items) => items.iter().for_each(|item| self.compared(attribute, item)),
            Value::Object(fields) => fields.values().for_each(|value| match value {
                Value::String(text) => {
                    self.texts.entry(attribute.to_owned()).or_default().insert(text.clone());
                }
                Value::Number(number) => {
                    self.numbers.entry(attribute.to_owned()).or_default().extend(number.as_u64());
                }
                other => self.compared(attribute, other),
            }),
            _ => {}
        }
    }
}

/// `context.x`, `context.time.x`, `resource.x`.
fn attribute(node: &Value) -> Option<String> {
    let access = node.get(".")?;
    let name = text(access, "attr")?;
    let of = access.get("left")?;
    match text(of, "Var") {
        Some(variable) => Some(format!("{variable}.{name}")),
        None => Some(format!("{}.{name}", attribute(of)?)),
    }
}

/// A text or number, or a set of them.
fn is_written_out(node: &Value) -> bool {
    match (node.get("Value"), node.get("Set")) {
        (Some(Value::String(_) | Value::Number(_)), _) => true,
        (_, Some(Value::Array(items))) => items.iter().all(is_written_out),
        _ => false,
    }
}

fn text<'a>(node: &'a Value, name: &str) -> Option<&'a str> {
    node.get(name)?.as_str()
}
