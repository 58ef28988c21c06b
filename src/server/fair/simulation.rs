//! Users and workers on a clock that is made up: what queues make of the same requests, without waiting for it.

use std::collections::VecDeque;

use crate::core::mix::stream;
use crate::server::fair::PART_S;
use crate::server::fair::queue::{Place, Queue};

/// Clients of a user, each of which asks again some time after it was answered.
#[derive(Clone, Copy)]
struct Clients {
    user: &'static str,
    n: usize,
    /// Between an answer and the next request.
    pause_s: f64,
    weight: f64,
}

/// What requests take: most little, some much.
#[derive(Clone, Copy)]
struct Costs {
    small_s: f64,
    large_s: f64,
    share_large: f64,
    /// Predictions are wrong by up to this power of e, either way.
    noise: f64,
}

const EVEN: Costs = Costs { small_s: 0.001, large_s: 0.001, share_large: 0.0, noise: 0.0 };
const MIXED: Costs = Costs { small_s: 0.001, large_s: 0.02, share_large: 0.1, noise: 0.0 };
const WIDE: Costs = Costs { small_s: 0.001, large_s: 0.1, share_large: 0.05, noise: 0.0 };

#[derive(Clone, Copy, PartialEq)]
enum Order {
    FirstCome,
    Fair,
}

struct Request {
    client: usize,
    began: f64,
    all_s: f64,
    left_s: f64,
    /// What predictions of it are multiplied with.
    error: f64,
}

struct Running {
    until: f64,
    part_s: f64,
    fair: Option<(f64, Place)>,
    request: Request,
}

/// An answered request.
struct Answered {
    user: &'static str,
    all_s: f64,
    latency_s: f64,
}

struct Simulation {
    clients: Vec<Clients>,
    costs: Costs,
    order: Order,
    n_workers: usize,
    seed: u64,
    n_drawn: u64,
    ready: Vec<(f64, usize)>,
    running: Vec<Running>,
    queue: Queue<&'static str, Request>,
    line: VecDeque<Request>,
    answered: Vec<Answered>,
}

impl Simulation {
    fn run(
        clients: &[Clients],
        costs: Costs,
        order: Order,
        n_workers: usize,
        until: f64,
    ) -> Vec<Answered> {
        let all: Vec<Clients> =
            clients.iter().flat_map(|clients| vec![*clients; clients.n]).collect();
        let mut simulation = Self {
            costs,
            order,
            n_workers,
            seed: 7,
            n_drawn: 0,
            ready: Vec::new(),
            running: Vec::new(),
            queue: Queue::new(1000),
            line: VecDeque::new(),
            answered: Vec::new(),
            clients: all,
        };
        for client in 0..simulation.clients.len() {
            let at = 0.001 * simulation.draw();
            simulation.ready.push((at, client));
        }
        while simulation.step() < until {}
        simulation.answered
    }

    /// A number in [0, 1).
    fn draw(&mut self) -> f64 {
        self.n_drawn += 1;
        (stream(self.seed, self.n_drawn) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// What happens next, and when.
    fn step(&mut self) -> f64 {
        let ended = (0..self.running.len())
            .min_by(|&a, &b| self.running[a].until.total_cmp(&self.running[b].until));
        let asks =
            (0..self.ready.len()).min_by(|&a, &b| self.ready[a].0.total_cmp(&self.ready[b].0));
        let at =
            |index: Option<usize>, time: &dyn Fn(usize) -> f64| index.map_or(f64::INFINITY, time);
        let (end, ask) = (at(ended, &|i| self.running[i].until), at(asks, &|i| self.ready[i].0));
        if end <= ask {
            let running = self.running.swap_remove(ended.unwrap());
            self.end(running, end);
        } else {
            let (_, client) = self.ready.swap_remove(asks.unwrap());
            self.ask(client, ask);
        }
        self.give(end.min(ask));
        end.min(ask)
    }

    fn ask(&mut self, client: usize, now: f64) {
        let is_large = self.draw() < self.costs.share_large;
        let kind_s = if is_large { self.costs.large_s } else { self.costs.small_s };
        let all_s = kind_s * (0.5 + self.draw());
        let error = (self.costs.noise * (2.0 * self.draw() - 1.0)).exp();
        let request = Request { client, began: now, all_s, left_s: all_s, error };
        let Clients { user, weight, .. } = self.clients[client];
        match self.order {
            Order::FirstCome => self.line.push_back(request),
            Order::Fair => {
                let costs = (weight, all_s.min(PART_S) * error, all_s * error);
                self.queue.push(&user, costs, request).unwrap();
            }
        }
    }

    fn give(&mut self, now: f64) {
        while self.running.len() < self.n_workers {
            let (request, part_s, fair) = match self.order {
                Order::FirstCome => {
                    let Some(request) = self.line.pop_front() else { return };
                    let all_s = request.all_s;
                    (request, all_s, None)
                }
                Order::Fair => {
                    let Some(turn) = self.queue.pop() else { return };
                    let part_s = turn.job.left_s.min(PART_S);
                    (turn.job, part_s, Some((turn.cost_s, turn.place)))
                }
            };
            self.running.push(Running { until: now + part_s, part_s, fair, request });
        }
    }

    fn end(&mut self, running: Running, now: f64) {
        let Running { part_s, fair, mut request, .. } = running;
        let Clients { user, pause_s, .. } = self.clients[request.client];
        request.left_s -= part_s;
        let is_done = request.left_s <= 1e-12;
        if is_done {
            self.answered.push(Answered {
                user,
                all_s: request.all_s,
                latency_s: now - request.began,
            });
            let next = now + pause_s * (0.5 + self.draw());
            self.ready.push((next, request.client));
        } else if let Some((_, place)) = fair {
            let cost_s = request.left_s.min(PART_S) * request.error;
            self.queue.push_on(&user, cost_s, place, request);
        }
        if let Some((cost_s, _)) = fair {
            self.queue.end(&user, cost_s, part_s);
        }
    }
}

fn latencies(answered: &[Answered], is_meant: impl Fn(&Answered) -> bool) -> Vec<f64> {
    let mut all: Vec<f64> =
        answered.iter().filter(|&one| is_meant(one)).map(|one| one.latency_s).collect();
    assert!(all.len() > 500, "{} are too few to tell", all.len());
    all.sort_by(f64::total_cmp);
    all
}

fn p99_of_ben(answered: &[Answered]) -> f64 {
    let all = latencies(answered, |one| one.user == "ben");
    all[all.len() * 99 / 100]
}

fn mean_of_small(answered: &[Answered], costs: Costs) -> f64 {
    let all = latencies(answered, |one| one.all_s <= 1.5 * costs.small_s);
    all.iter().sum::<f64>() / all.len() as f64
}

fn served(answered: &[Answered], user: &str) -> f64 {
    answered.iter().filter(|one| one.user == user).map(|one| one.all_s).sum()
}

fn clients(user: &'static str, n: usize, pause_s: f64) -> Clients {
    Clients { user, n, pause_s, weight: 1.0 }
}

/// How much longer ben's slowest hundredth waits beside ann.
fn slower(costs: Costs, order: Order, n_workers: usize, pause_s: f64) -> f64 {
    let (ann, ben) = (clients("ann", 32, pause_s), clients("ben", 2, pause_s));
    let alone = Simulation::run(&[ben], costs, order, n_workers, 60.0);
    let beside = Simulation::run(&[ann, ben], costs, order, n_workers, 60.0);
    p99_of_ben(&beside) / p99_of_ben(&alone)
}

#[test]
fn beside_a_flood_the_slowest_of_two_clients_are_at_most_twice_as_slow() {
    for costs in [EVEN, MIXED, WIDE] {
        for pause_s in [0.0, 0.0005, 0.002, 0.005] {
            let (fair, first_come) = (
                slower(costs, Order::Fair, 2, pause_s),
                slower(costs, Order::FirstCome, 2, pause_s),
            );
            let what = format!("pause {pause_s}, large {}: {fair:.2}", costs.large_s);
            assert!(fair <= 2.0, "{what}");
            assert!(first_come > 2.0, "{what}, first come {first_come:.2}: nothing to mend");
        }
    }
}

#[test]
fn small_requests_answer_twice_as_soon_as_when_the_first_is_first() {
    for costs in [MIXED, WIDE, Costs { noise: 1.0, ..MIXED }, Costs { noise: 1.0, ..WIDE }] {
        for n_workers in [1, 2, 4] {
            let all = [clients("ann", 32, 0.0), clients("ben", 2, 0.0)];
            let [fair, first_come] = [Order::Fair, Order::FirstCome].map(|order| {
                mean_of_small(&Simulation::run(&all, costs, order, n_workers, 60.0), costs)
            });
            let sooner = first_come / fair;
            assert!(sooner >= 2.0, "{n_workers} workers, {}: {sooner:.2}", costs.large_s);
        }
    }
}

#[test]
fn users_share_by_weight_whatever_their_requests_and_however_wrong_predictions_are() {
    let flood = Costs { noise: 2.0, ..WIDE };
    for (weights, expected) in [((1.0, 1.0), 0.5), ((1.0, 3.0), 0.75), ((4.0, 1.0), 0.2)] {
        let ann = Clients { weight: weights.0, ..clients("ann", 32, 0.0) };
        let ben = Clients { weight: weights.1, ..clients("ben", 8, 0.0) };
        let answered = Simulation::run(&[ann, ben], flood, Order::Fair, 2, 120.0);
        let (ann, ben) = (served(&answered, "ann"), served(&answered, "ben"));
        let share = ben / (ann + ben);
        assert!((share - expected).abs() < 0.03, "{share:.3} for {expected}");
    }
}

#[test]
fn no_request_waits_for_ever_behind_smaller_ones() {
    let answered = Simulation::run(&[clients("ann", 32, 0.0)], MIXED, Order::Fair, 1, 60.0);
    let large = latencies(&answered, |one| one.all_s > 0.009);
    let longest = large[large.len() - 1];
    // Side by side with 31 others the largest would take 32 times as long as alone; what is in parts takes a little more.
    assert!(longest < 1.25 * 32.0 * 0.03, "{longest}");
}
