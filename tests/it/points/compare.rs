//! All that can be asked of a collection, compared with its model.

use std::collections::{BTreeMap, BTreeSet};

use nearkin::core::ids::PointId;
use nearkin::engine::{Ask, Direction, FacetValue, How, Offset, Order, Scroll, With, WithVectors};
use nearkin::store::columns::datetime;
use nearkin::store::columns::number::Number;
use nearkin::store::columns::path::elements;
use serde_json::Value;

use super::history::Pair;
use super::model::{DIMS, Random, TENANTS, path, row, rows};

impl Pair {
    /// All that can be asked says what the model says.
    pub(super) fn compare(&self, random: &mut Random) {
        let own = self.own();
        assert_eq!(own.n_points().unwrap(), self.model.points.len() as u64);
        for tenant in [None].into_iter().chain(TENANTS.map(Some)) {
            let ask = Ask::new(tenant, random.filter());
            let matching = self.model.matching(&ask);
            assert_eq!(own.count(&ask).unwrap(), matching.len() as u64, "{ask:?}");
            self.compare_pages(random, &ask, &matching);
            self.compare_facets(random, &ask, &matching);
            self.compare_points(tenant);
            self.compare_search(random, &ask, &matching);
            if let Some(tenant) = tenant {
                let n = self.model.points.values().filter(|own| own.grants.contains(tenant));
                assert_eq!(own.count_of_tenant(tenant).unwrap(), n.count() as u64, "{tenant}");
            }
        }
        let mut tenants = BTreeMap::new();
        let mut from = None;
        loop {
            let page = own.tenants(from.as_deref(), 2).unwrap();
            tenants.extend(page.tenants);
            let Some(next) = page.next else { break };
            from = Some(next);
        }
        let n_of = |name: &String| {
            self.model.points.values().filter(|own| own.grants.contains(name)).count() as u64
        };
        let expected = self.model.tenants.iter().map(|name| (name.clone(), n_of(name)));
        assert_eq!(tenants, expected.collect());
    }

    fn pages(
        &self,
        random: &mut Random,
        ask: &Ask,
        order: Order,
    ) -> Vec<(PointId, Option<Number>)> {
        let limit = random.pick(&[1, 2, 7, 50, 400]);
        let with = With { payload: false, vectors: WithVectors::Nothing };
        let mut scroll = Scroll { order, from: None, limit, with };
        let mut all = Vec::new();
        loop {
            let page = self.own().scroll(ask, &scroll).unwrap();
            assert!(page.points.len() == limit || page.next.is_none());
            let values = page.values.into_iter().map(Some).chain(std::iter::repeat(None));
            all.extend(page.points.iter().map(|point| point.id).zip(values));
            scroll.from = page.next;
            if scroll.from.is_none() {
                return all;
            }
        }
    }

    fn compare_pages(&self, random: &mut Random, ask: &Ask, matching: &[PointId]) {
        let pages = self.pages(random, ask, Order::Id);
        let ids: Vec<PointId> = pages.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, matching, "{ask:?}");
        let text = random.pick(&["size", "at"]);
        let direction = random.pick(&[Direction::Ascending, Direction::Descending]);
        let order = Order::Field(path(text), direction);
        let number = |value: &Value| match value.as_str() {
            Some(text) => datetime::parse(text).map(|us| Number::Int(us.into())),
            None => Number::of(value),
        };
        let mut expected: Vec<(Number, PointId)> = Vec::new();
        for &id in matching {
            let own = &self.model.points[&id].payload;
            let mut values: Vec<Number> =
                elements(&path(text).values(own)).into_iter().filter_map(number).collect();
            values.sort_unstable();
            values.dedup();
            expected.extend(values.into_iter().map(|value| (value, id)));
        }
        // Sorting is stable: points of one value stay in the order of ids.
        expected.sort_by_key(|(value, _)| *value);
        if direction == Direction::Descending {
            expected.sort_by_key(|(value, _)| std::cmp::Reverse(*value));
        }
        let expected: Vec<_> = expected.into_iter().map(|(v, id)| (id, Some(v))).collect();
        assert_eq!(self.pages(random, ask, order.clone()), expected, "{ask:?} {order:?}");
        let start = Number::Int(7);
        let is_past = |value: Number| match direction {
            Direction::Ascending => value >= start,
            Direction::Descending => value <= start,
        };
        let from = Some(Offset::Value(start));
        let scroll = Scroll { order, from, limit: 4000, with: With::default() };
        let page = self.own().scroll(ask, &scroll).unwrap();
        let ids: Vec<PointId> = page.points.iter().map(|point| point.id).collect();
        let past = expected.iter().filter(|(_, value)| is_past(value.unwrap()));
        assert_eq!(ids, past.map(|(id, _)| *id).collect::<Vec<_>>());
    }

    fn compare_facets(&self, random: &mut Random, ask: &Ask, matching: &[PointId]) {
        let field = random.pick(&["kind", "size", "flag", "owner", "meta.depth", "meta"]);
        let mut counts: BTreeMap<FacetValue, u64> = BTreeMap::new();
        for id in matching {
            let path = path(field);
            let values = elements(&path.values(&self.model.points[id].payload)).into_iter();
            let values: BTreeSet<FacetValue> = values
                .filter_map(|value| match value {
                    Value::Bool(own) => Some(FacetValue::Bool(*own)),
                    Value::String(text) => Some(FacetValue::Keyword(text.clone())),
                    other => other.as_i64().map(FacetValue::Integer),
                })
                .collect();
            values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
        }
        let mut expected: Vec<(FacetValue, u64)> = counts.into_iter().collect();
        expected.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let limit = random.pick(&[1, 3, 1000]);
        expected.truncate(limit);
        let found = self.own().facet(ask, &path(field), limit).unwrap();
        assert_eq!(found, expected, "{field} of {ask:?}");
    }

    fn compare_points(&self, tenant: Option<&str>) {
        let ids: Vec<PointId> = (0..260)
            .flat_map(|n: u64| [PointId::Num(n), PointId::Uuid(u128::from(n) << 90)])
            .collect();
        let with = With { payload: true, vectors: WithVectors::All };
        let found = self.own().retrieve(tenant, &ids, &with).unwrap();
        for (id, found) in ids.iter().zip(found) {
            let own = self.model.points.get(id);
            let own = own.filter(|own| tenant.is_none_or(|name| own.grants.contains(name)));
            let found = found.map(|point| {
                assert_eq!(point.id, *id);
                let vectors = point.vectors.iter().map(|(n, rows)| (n.clone(), row(rows, 0)));
                (point.payload.unwrap(), vectors.collect::<BTreeMap<_, _>>())
            });
            let own = own.map(|own| (own.payload.clone(), own.vectors.clone()));
            assert_eq!(found, own, "{id} for {tenant:?}");
        }
    }

    fn compare_search(&self, random: &mut Random, ask: &Ask, matching: &[PointId]) {
        let (name, dim) = random.pick(&DIMS);
        let how = How { k: 400, vector: name.to_owned(), ..How::default() };
        let query = rows(dim, random.n, 1);
        let answer = &self.own().search(&query, std::slice::from_ref(ask), &how).unwrap()[0];
        let found: BTreeSet<PointId> = answer.points.iter().map(|point| point.id).collect();
        let has = |id: &&PointId| self.model.points[*id].vectors.contains_key(name);
        let expected = matching.iter().filter(has).copied().collect();
        assert_eq!(found, expected, "{name} for {ask:?}");
    }
}
