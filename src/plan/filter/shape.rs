//! Shapes on the globe, and rectangles of degrees around them.

use std::f64::consts::PI;

use crate::store::columns::geo::{GeoPoint, Rectangle};

/// Mean radius of the Earth in metres, as the IUGG recommends it.
const EARTH_M: f64 = 6_371_008.8;

/// Degrees that a rectangle around a circle is wider than computed, a tenth of a millimetre: far more than rounding.
const MARGIN: f64 = 1e-9;

/// A part of the globe.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Between two corners, borders excluded; from west to east, across the 180th meridian if the west is the greater.
    Box {
        /// North and west.
        top_left: GeoPoint,
        /// South and east.
        bottom_right: GeoPoint,
    },
    /// Nearer to the center than the radius, on the great circle.
    Circle {
        /// Center.
        center: GeoPoint,
        /// Metres.
        radius: f64,
    },
    /// Inside of the first ring and of none of the others, in the plane of degrees; borders belong to none.
    Polygon {
        /// Outer ring.
        exterior: Vec<GeoPoint>,
        /// Holes.
        interiors: Vec<Vec<GeoPoint>>,
    },
}

impl Shape {
    /// Whether the shape contains a point.
    pub fn contains(&self, point: GeoPoint) -> bool {
        match self {
            Self::Box { top_left, bottom_right } => {
                let (west, east) = (top_left.lon < point.lon, point.lon < bottom_right.lon);
                let is_between =
                    if top_left.lon > bottom_right.lon { west || east } else { west && east };
                is_between && top_left.lat > point.lat && point.lat > bottom_right.lat
            }
            Self::Circle { center, radius } => distance_m(*center, point) < *radius,
            Self::Polygon { exterior, interiors } => {
                place(point, exterior) == Place::Inside
                    && interiors.iter().all(|ring| place(point, ring) == Place::Outside)
            }
        }
    }

    /// Rectangles that together contain every point of the shape that is on the globe.
    pub fn rectangles(&self) -> Vec<Rectangle> {
        match self {
            Self::Box { top_left, bottom_right } => {
                let lat = bottom_right.lat..=top_left.lat;
                around(lat, top_left.lon, bottom_right.lon)
            }
            Self::Circle { center, radius } => circle(*center, *radius),
            Self::Polygon { exterior, .. } => {
                let (lat, lon) = (exterior.iter().map(|p| p.lat), exterior.iter().map(|p| p.lon));
                let least = |a: f64, b: f64| a.min(b);
                let lat = lat.clone().fold(90.0, least)..=lat.fold(-90.0, f64::max);
                vec![Rectangle {
                    lat,
                    lon: lon.clone().fold(180.0, least)..=lon.fold(-180.0, f64::max),
                }]
            }
        }
    }
}

/// One rectangle, or two where the 180th meridian lies between west and east.
fn around(lat: std::ops::RangeInclusive<f64>, west: f64, east: f64) -> Vec<Rectangle> {
    if west <= east {
        return vec![Rectangle { lat, lon: west..=east }];
    }
    vec![Rectangle { lat: lat.clone(), lon: west..=180.0 }, Rectangle { lat, lon: -180.0..=east }]
}

fn circle(center: GeoPoint, radius: f64) -> Vec<Rectangle> {
    let angle = radius / EARTH_M;
    let d_lat = angle.to_degrees() + MARGIN;
    let (south, north) = (center.lat - d_lat, center.lat + d_lat);
    let every = |lat| vec![Rectangle { lat, lon: -180.0..=180.0 }];
    if south <= -90.0 || north >= 90.0 {
        // A pole lies inside: every meridian passes through.
        return every(south.max(-90.0)..=north.min(90.0));
    }
    // Where the circle touches a meridian: sin(d_lon) = sin(angle) / cos(lat), with both below 1 as no pole is inside.
    let d_lon = (angle.sin() / center.lat.to_radians().cos()).min(1.0).asin().to_degrees();
    // Near a pole the quotient is near 1, where its rounding weighs most.
    let d_lon = d_lon + MARGIN + 1e-6 * f64::from(d_lon > 80.0);
    if d_lon >= 180.0 {
        return every(south..=north);
    }
    let wrap = |lon: f64| {
        if lon > 180.0 {
            lon - 360.0
        } else if lon < -180.0 {
            lon + 360.0
        } else {
            lon
        }
    };
    let (west, east) = (wrap(center.lon - d_lon), wrap(center.lon + d_lon));
    // Both ends of the globe are the same meridian.
    let mut rectangles = around(south..=north, west, east);
    for edge in [-180.0, 180.0] {
        if rectangles.iter().any(|r| r.lon.contains(&edge))
            && !rectangles.iter().any(|r| r.lon.contains(&-edge))
        {
            rectangles.push(Rectangle { lat: south..=north, lon: -edge..=-edge });
        }
    }
    rectangles
}

/// Metres between two points on the great circle, by the haversine formula.
pub fn distance_m(a: GeoPoint, b: GeoPoint) -> f64 {
    let half = |degrees: f64| (degrees * (PI / 180.0) / 2.0).sin().powi(2);
    let (a_lat, b_lat) = (a.lat.to_radians().cos(), b.lat.to_radians().cos());
    let h = half(b.lat - a.lat) + a_lat * b_lat * half(b.lon - a.lon);
    2.0 * EARTH_M * h.sqrt().min(1.0).asin()
}

#[derive(PartialEq)]
enum Place {
    Inside,
    Outside,
    Border,
}

/// Where a point lies by the number of edges that a ray from it crosses.
fn place(point: GeoPoint, ring: &[GeoPoint]) -> Place {
    let mut is_inside = false;
    for (n, a) in ring.iter().enumerate() {
        let b = ring[(n + 1) % ring.len()];
        let cross = (b.lat - a.lat) * (point.lon - a.lon) - (b.lon - a.lon) * (point.lat - a.lat);
        let is_beside = (a.lat - point.lat) * (b.lat - point.lat) <= 0.0
            && (a.lon - point.lon) * (b.lon - point.lon) <= 0.0;
        if cross == 0.0 && is_beside {
            return Place::Border;
        }
        if (a.lon > point.lon) != (b.lon > point.lon) {
            let lat = a.lat + (b.lat - a.lat) * (point.lon - a.lon) / (b.lon - a.lon);
            is_inside ^= point.lat < lat;
        }
    }
    if is_inside { Place::Inside } else { Place::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn point(lat: f64, lon: f64) -> GeoPoint {
        GeoPoint { lat, lon }
    }

    fn unit(seed: u64, n: u64) -> f64 {
        (stream(seed, n) >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn rectangles_contain_all_points_of_their_shape() {
        for n in 0..3000 {
            // Many centers at the poles and at the 180th meridian, radii from metres to half of the globe.
            let lat = [90.0, -90.0, 89.99, 0.0, 180.0 * unit(1, n) - 90.0][n as usize % 5];
            let lon = [180.0, -180.0, 179.999, 360.0 * unit(2, n) - 180.0][n as usize / 5 % 4];
            let (center, radius) = (point(lat, lon), 10f64.powf(7.5 * unit(3, n)));
            let shape = Shape::Circle { center, radius };
            let rectangles = shape.rectangles();
            let mut n_inside = 0;
            for m in 0..200 {
                let reach = (radius / EARTH_M).to_degrees() * (0.9 + 0.2 * unit(4, 200 * n + m));
                let turn = 2.0 * PI * unit(5, 200 * n + m);
                let lat = (lat + reach * turn.sin()).clamp(-90.0, 90.0);
                let d_lon = reach * turn.cos() / lat.to_radians().cos().max(1e-9);
                let at = point(lat, (lon + d_lon + 540.0).rem_euclid(360.0) - 180.0);
                if shape.contains(at) {
                    n_inside += 1;
                    let is_in = rectangles
                        .iter()
                        .any(|r| r.lat.contains(&at.lat) && r.lon.contains(&at.lon));
                    assert!(is_in, "{n}: {center:?} {radius} {at:?} {rectangles:?}");
                }
            }
            assert!(n_inside > 0, "{n}: {center:?} {radius}");
        }
    }

    #[test]
    fn a_circle_is_measured_on_the_globe() {
        let (berlin, moscow) = (point(52.52, 13.405), point(55.7558, 37.6173));
        assert!((1_600_000.0..1_650_000.0).contains(&distance_m(berlin, moscow)));
        let half = distance_m(point(0.0, 0.0), point(0.0, 180.0));
        assert!((half - PI * EARTH_M).abs() < 1e-6);
        assert!(!Shape::Circle { center: berlin, radius: 0.0 }.contains(berlin));
        let across = Shape::Circle { center: point(0.0, 179.9), radius: 30_000.0 };
        assert!(across.contains(point(0.0, -179.9)) && across.contains(point(0.0, -180.0)));
    }

    #[test]
    fn a_box_may_lie_across_the_180th_meridian() {
        let shape = Shape::Box { top_left: point(10.0, 170.0), bottom_right: point(-10.0, -170.0) };
        for (lon, expected) in
            [(171.0, true), (-171.0, true), (170.0, false), (0.0, false), (180.0, true)]
        {
            assert_eq!(shape.contains(point(0.0, lon)), expected, "{lon}");
        }
        assert!(!shape.contains(point(10.0, 175.0)), "the border");
        assert_eq!(shape.rectangles().len(), 2);
    }

    #[test]
    fn holes_and_borders_are_outside_of_a_polygon() {
        let square = |a: f64, b: f64| {
            [(a, a), (a, b), (b, b), (b, a), (a, a)].map(|(y, x)| point(y, x)).to_vec()
        };
        let shape =
            Shape::Polygon { exterior: square(0.0, 10.0), interiors: vec![square(4.0, 6.0)] };
        for (at, expected) in [
            (point(1.0, 1.0), true),
            (point(5.0, 5.0), false),
            (point(4.0, 5.0), false),
            (point(4.0, 4.0), false),
            (point(0.0, 5.0), false),
            (point(11.0, 5.0), false),
            (point(3.0, 9.5), true),
        ] {
            assert_eq!(shape.contains(at), expected, "{at:?}");
        }
    }
}
