//! Formulas, one expression after another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::engine::query::formula::{Expression, Formula, Shape, Terms, Variable};
use crate::plan::filter::Filter;
use crate::store::columns::datetime;
use crate::store::columns::geo::GeoPoint;

fn number(number: f64) -> Box<Expression> {
    Box::new(Expression::Constant(number))
}

fn field(path: &str) -> Expression {
    Expression::Variable(Variable::Payload(path.parse().unwrap()))
}

fn score(expression: Expression) -> Result<f32, String> {
    let payload = json!({
        "n": 2.5, "one": [4], "two": [1, 2], "none": [], "text": "x", "yes": true,
        "at": {"lat": 52.52, "lon": 13.405}, "when": "1970-01-02T00:00:00.5Z",
    });
    let defaults: BTreeMap<Variable, Value> = BTreeMap::from([
        (Variable::Payload("missing".parse().unwrap()), json!(7)),
        (Variable::Payload("none".parse().unwrap()), json!([8])),
        (Variable::Payload("null".parse().unwrap()), Value::Null),
        (Variable::Score(2), json!(0.5)),
    ]);
    let formula = Formula { expression, defaults };
    let terms = Terms {
        id: PointId::Num(3),
        scores: &[Some(0.25), None],
        payload: &payload,
        has_vector: &|_| false,
        defaults: &formula.defaults,
    };
    formula.score(&terms).map_err(|error| error.to_string())
}

#[test]
fn variables_are_the_one_value_that_there_is() {
    for (path, expected) in [("n", 2.5), ("one", 4.0), ("missing", 7.0), ("none", 8.0)] {
        assert_eq!(score(field(path)), Ok(expected), "{path}");
    }
    for (number, expected) in [(0, 0.25), (1, 0.0), (2, 0.5), (9, 0.0)] {
        assert_eq!(score(Expression::Variable(Variable::Score(number))), Ok(expected));
    }
    for (path, expected) in [
        ("two", "formula: point 3: two has 2 values, expected one"),
        ("null", "formula: point 3: null has no value and no default"),
        ("text", "formula: point 3: text is \"x\", expected a number"),
        ("yes", "formula: point 3: yes is true, expected a number"),
    ] {
        assert_eq!(score(field(path)), Err(expected.to_owned()));
    }
}

#[test]
fn numbers_are_computed() {
    let div = |left: f64, right: f64, by_zero: Option<f64>| Expression::Div {
        left: number(left),
        right: number(right),
        by_zero,
    };
    let pow = |base: f64, exponent: f64| Expression::Pow(number(base), number(exponent));
    let never = Expression::Sqrt(number(-1.0));
    for (expression, expected) in [
        (Expression::Sum(vec![*number(1.5), *number(2.0)]), 3.5),
        (Expression::Sum(Vec::new()), 0.0),
        (Expression::Product(vec![*number(1.5), *number(2.0)]), 3.0),
        (Expression::Product(Vec::new()), 1.0),
        (Expression::Product(vec![*number(0.0), never]), 0.0),
        (Expression::Neg(number(2.0)), -2.0),
        (Expression::Abs(number(-2.0)), 2.0),
        (div(3.0, 2.0, None), 1.5),
        (div(3.0, 0.0, Some(9.0)), 9.0),
        (div(0.0, 0.0, Some(9.0)), 0.0),
        (Expression::Sqrt(number(9.0)), 3.0),
        (pow(2.0, 3.0), 8.0),
        (pow(-2.0, 3.0), -8.0),
        (Expression::Exp(number(0.0)), 1.0),
        (Expression::Log10(number(1000.0)), 3.0),
        (Expression::Ln(number(1.0)), 0.0),
        (Expression::Condition(Box::default()), 1.0),
        (Expression::Datetime(datetime::parse("1970-01-01T00:01:00Z").unwrap()), 60.0),
        (Expression::DatetimeKey("when".parse().unwrap()), 86_400.5),
    ] {
        assert_eq!(score(expression.clone()), Ok(expected), "{expression:?}");
    }
    let filter = Filter::from_json(&json!({"must": {"key": "text", "match": {"value": "y"}}}));
    assert_eq!(score(Expression::Condition(Box::new(filter.unwrap()))), Ok(0.0));
}

#[test]
fn what_has_no_value_is_an_error_that_names_the_point() {
    let pow = |base: f64, exponent: f64| Expression::Pow(number(base), number(exponent));
    let div = Expression::Div { left: number(3.0), right: number(0.0), by_zero: None };
    for (expression, expected) in [
        (div, "3 divided by 0 is inf"),
        (Expression::Sqrt(number(-4.0)), "sqrt of -4 is NaN"),
        (pow(-2.0, 0.5), "-2 to the power of 0.5 is NaN"),
        (pow(0.0, -1.0), "0 to the power of -1 is inf"),
        (Expression::Exp(number(1e4)), "exp of 10000 is inf"),
        (Expression::Log10(number(0.0)), "log10 of 0 is -inf"),
        (Expression::Ln(number(-1.0)), "ln of -1 is NaN"),
        (Expression::DatetimeKey("n".parse().unwrap()), "n is 2.5, expected a date and time"),
        (*number(1e300), "a score of 1000000000000000"),
    ] {
        let error = score(expression).unwrap_err();
        assert!(error.starts_with(&format!("formula: point 3: {expected}")), "{error}");
    }
    let origin = GeoPoint { lat: 0.0, lon: 0.0 };
    let error = score(Expression::GeoDistance(origin, "n".parse().unwrap())).unwrap_err();
    assert_eq!(error, "formula: point 3: n is 2.5, expected lat and lon");
}

#[test]
fn places_are_metres_apart() {
    let moscow = GeoPoint { lat: 55.7558, lon: 37.6173 };
    let metres = score(Expression::GeoDistance(moscow, "at".parse().unwrap())).unwrap();
    assert!((1_600_000.0..1_650_000.0).contains(&metres), "{metres}");
}

#[test]
fn decays_are_one_at_the_target_and_the_midpoint_at_the_scale() {
    for shape in [Shape::Linear, Shape::Exponential, Shape::Gauss] {
        let at = |x: f64| {
            let target = Some(number(10.0));
            let decay =
                Expression::Decay { shape, x: number(x), target, scale: 4.0, midpoint: 0.3 };
            score(decay).unwrap()
        };
        assert_eq!(at(10.0), 1.0);
        assert!((at(14.0) - 0.3).abs() < 1e-6 && (at(6.0) - 0.3).abs() < 1e-6, "{shape:?}");
    }
    let far = |shape| Expression::Decay {
        shape,
        x: number(3.0),
        target: None,
        scale: 1.0,
        midpoint: 0.5,
    };
    assert_eq!(score(far(Shape::Linear)), Ok(0.0));
    assert_eq!(score(far(Shape::Exponential)), Ok(0.125));
    assert!((score(far(Shape::Gauss)).unwrap() - 0.5f32.powi(9)).abs() < 1e-9);
}
