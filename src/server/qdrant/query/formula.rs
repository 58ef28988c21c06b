//! Formulas: expressions of numbers, scores, payload fields and conditions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::query::{Expression, Formula, Shape, Variable};
use crate::error::Result;
use crate::plan::filter::Filter;
use crate::server::qdrant::query::node::Node;
use crate::store::columns::datetime;

/// How a name begins that stands for a score.
const SCORE: &str = "$score";

/// `scale` of a decay where none is given.
const SCALE: f64 = 1.0;

/// `midpoint` of a decay where none is given.
const MIDPOINT: f64 = 0.5;

const OPERATIONS: [&str; 16] = [
    "sum",
    "mult",
    "neg",
    "abs",
    "div",
    "sqrt",
    "pow",
    "exp",
    "log10",
    "ln",
    "geo_distance",
    "datetime",
    "datetime_key",
    "lin_decay",
    "exp_decay",
    "gauss_decay",
];

/// The formula at `formula`, and the values at `defaults`.
pub(super) fn formula(formula: Node<'_>, defaults: Option<Node<'_>>) -> Result<Formula> {
    let mut values = BTreeMap::new();
    if let Some(node) = defaults {
        let Value::Object(map) = node.value else {
            return Err(node.wrong_type("an object of values by variable"));
        };
        for (name, value) in map {
            values.insert(variable(node, name)?, value.clone());
        }
    }
    Ok(Formula { expression: expression(formula)?, defaults: values })
}

fn variable(node: Node<'_>, name: &str) -> Result<Variable> {
    let Some(rest) = name.strip_prefix(SCORE) else {
        let path = name.parse().map_err(|error: crate::error::Error| error.within(node))?;
        return Ok(Variable::Payload(path));
    };
    if rest.is_empty() {
        return Ok(Variable::Score(0));
    }
    let inside = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let digits = inside.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(Variable::Score).ok_or_else(|| {
        node.refuse("query_value", &format!("{SCORE} or {SCORE}[0] and not {name:?}"))
    })
}

fn expression(node: Node<'_>) -> Result<Expression> {
    match node.value {
        Value::Number(_) => Ok(Expression::Constant(node.number()?)),
        Value::String(name) => Ok(Expression::Variable(variable(node, name)?)),
        Value::Object(map) => {
            match OPERATIONS.into_iter().find(|operation| map.contains_key(*operation)) {
                Some(name) => operation(node, name),
                None => condition(node),
            }
        }
        _ => Err(node.wrong_type("a number, a variable, an operation or a condition")),
    }
}

/// A condition as filters have it.
fn condition(node: Node<'_>) -> Result<Expression> {
    let filter = Filter::from_json(&json!({ "must": [node.value] }));
    filter.map(|filter| Expression::Condition(Box::new(filter))).map_err(|error| error.within(node))
}

fn operation(node: Node<'_>, name: &str) -> Result<Expression> {
    let map = node.object(&[name])?;
    let inner = node.need(map, name)?;
    let one = |make: fn(Box<Expression>) -> Expression| Ok(make(Box::new(expression(inner)?)));
    match name {
        "sum" => Ok(Expression::Sum(inner.each("expressions", expression)?)),
        "mult" => Ok(Expression::Product(inner.each("expressions", expression)?)),
        "neg" => one(Expression::Neg),
        "abs" => one(Expression::Abs),
        "sqrt" => one(Expression::Sqrt),
        "exp" => one(Expression::Exp),
        "log10" => one(Expression::Log10),
        "ln" => one(Expression::Ln),
        "div" => {
            let map = inner.object(&["left", "right", "by_zero_default"])?;
            let left = Box::new(expression(inner.need(map, "left")?)?);
            let right = Box::new(expression(inner.need(map, "right")?)?);
            let by_zero = inner.read(map, "by_zero_default", |node| node.number())?;
            Ok(Expression::Div { left, right, by_zero })
        }
        "pow" => {
            let map = inner.object(&["base", "exponent"])?;
            let base = Box::new(expression(inner.need(map, "base")?)?);
            Ok(Expression::Pow(base, Box::new(expression(inner.need(map, "exponent")?)?)))
        }
        "geo_distance" => {
            let map = inner.object(&["origin", "to"])?;
            let origin = inner.need(map, "origin")?.place()?;
            Ok(Expression::GeoDistance(origin, inner.need(map, "to")?.path()?))
        }
        "datetime" => match datetime::parse(inner.string()?) {
            Some(us) => Ok(Expression::Datetime(us)),
            None => Err(inner.refuse("query_value", "a date and time as 2024-05-31T12:00:00Z")),
        },
        "datetime_key" => Ok(Expression::DatetimeKey(inner.path()?)),
        "lin_decay" => decay(inner, Shape::Linear),
        "exp_decay" => decay(inner, Shape::Exponential),
        _ => decay(inner, Shape::Gauss),
    }
}

fn decay(node: Node<'_>, shape: Shape) -> Result<Expression> {
    let map = node.object(&["x", "target", "scale", "midpoint"])?;
    Ok(Expression::Decay {
        shape,
        x: Box::new(expression(node.need(map, "x")?)?),
        target: node.read(map, "target", expression)?.map(Box::new),
        scale: node.read(map, "scale", |node| node.number())?.unwrap_or(SCALE),
        midpoint: node.read(map, "midpoint", |node| node.number())?.unwrap_or(MIDPOINT),
    })
}
