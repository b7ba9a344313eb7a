//! The route look-up as the kernel makes it (`net/ipv4/fib_rules.c`, `fib_trie.c`): rules in their order, in each
//! table the longest prefix, then type of service, then metric.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::Model;
use crate::sample::{Hop, Route, RouteKind, Rule, RuleAction, Sample};

/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u32 = 255;

/// A packet as the look-up sees it. Without an input device it is one that this host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: Option<Ipv4Addr>,
    pub destination: Ipv4Addr,
    pub input_link: Option<u32>,
    pub mark: u32,
    pub tos: u8,
}

/// What a look-up comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A route matched, of whatever type; the hops are those that are alive.
    Route {
        route: &'a Route,
        hops: Vec<&'a Hop>,
    },
    /// A rule itself refused the packet.
    Rule {
        action: RuleAction,
    },
    NoRoute,
    /// Something that is not evaluated here stands in the way.
    Undecided {
        why: String,
    },
}

/// One table's routes by destination: a look-up asks for each prefix length, longest first.
type Table<'a> = HashMap<Ipv4Net, Vec<&'a Route>>;

/// The routes of all tables, ordered for look-ups.
pub struct Tables<'a> {
    sample: &'a Sample,
    tables: BTreeMap<u32, Table<'a>>,
}

impl<'a> Tables<'a> {
    pub fn new(sample: &'a Sample) -> Self {
        let mut tables: BTreeMap<u32, Table<'a>> = BTreeMap::new();
        for route in &sample.routes {
            tables.entry(route.table).or_default().entry(route.destination).or_default().push(route);
        }
        for routes in tables.values_mut().flat_map(HashMap::values_mut) {
            routes.sort_by_key(|route| (u8::MAX - route.tos, route.metric));
        }
        Self { sample, tables }
    }

    /// The device of the main table's default route.
    pub fn default_link(&self) -> Option<u32> {
        self.default_route()?.hops.first()?.link
    }

    /// The main table's preferred default route that leads by a device.
    pub fn default_route(&self) -> Option<&'a Route> {
        let routes = self.tables.get(&TABLE_MAIN)?.get(&Ipv4Net::default())?;
        routes.iter().copied().find(|route| route.hops.first().is_some_and(|hop| hop.link.is_some()))
    }

    /// Whether the local table is there to be asked.
    pub fn has_local(&self) -> bool {
        self.tables.contains_key(&TABLE_LOCAL)
    }

    /// What the local table has for an address.
    pub fn find_local(&self, address: Ipv4Addr) -> Option<&'a Route> {
        let flow = Flow { source: None, destination: address, input_link: None, mark: 0, tos: 0 };
        self.find(TABLE_LOCAL, &flow).map(|(route, _)| route)
    }

    /// The best living route of a table.
    fn find(&self, table: u32, flow: &Flow) -> Option<(&'a Route, Vec<&'a Hop>)> {
        let table = self.tables.get(&table)?;
        let networks = (0..=32).rev().filter_map(|length| Ipv4Net::new(flow.destination, length).ok());
        networks.filter_map(|network| table.get(&network.trunc())).flatten().find_map(|route| {
            if route.tos != 0 && route.tos != flow.tos {
                return None;
            }
            let hops: Vec<&Hop> = route.hops.iter().filter(|hop| !hop.dead).collect();
            if hops.is_empty() && !route.hops.is_empty() {
                return None;
            }
            Some((*route, hops))
        })
    }
}

/// Makes the look-up that the kernel makes for this packet.
pub fn look_up<'a>(model: &Model<'a>, flow: &Flow) -> Decision<'a> {
    let tables = &model.tables;
    let input = match flow.input_link {
        None => Some("lo"),
        Some(index) => model.link(index).map(|link| link.name.as_str()),
    };
    let mut resume_at = 0;
    for rule in &tables.sample.rules {
        if rule.priority < resume_at || !matches(rule, flow, input) {
            continue;
        }
        if !rule.unsupported.is_empty() {
            return Decision::Undecided {
                why: format!("rule {} also matches by {}", rule.priority, rule.unsupported.join(", ")),
            };
        }
        match rule.action {
            RuleAction::LookUp(table) => {
                let Some((route, hops)) = tables.find(table, flow) else { continue };
                let suppressed = rule
                    .suppress_prefix_length
                    .is_some_and(|length| u32::from(route.destination.prefix_len()) <= length);
                if !suppressed && route.kind != RouteKind::Throw {
                    return Decision::Route { route, hops };
                }
            }
            RuleAction::Goto(priority) => resume_at = priority,
            RuleAction::Nop => {}
            action @ (RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit) => {
                return Decision::Rule { action };
            }
            RuleAction::Other(number) => {
                return Decision::Undecided {
                    why: format!("rule {} has the unknown action {number}", rule.priority),
                };
            }
        }
    }
    Decision::NoRoute
}

fn matches(rule: &Rule, flow: &Flow, input: Option<&str>) -> bool {
    let source = flow.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let matched = rule.source.is_none_or(|prefix| prefix.contains(&source))
        && rule.destination.is_none_or(|prefix| prefix.contains(&flow.destination))
        && rule.input_interface.as_deref().is_none_or(|name| input == Some(name))
        && rule.output_interface.is_none()
        && (flow.mark ^ rule.mark) & rule.mark_mask == 0
        && (rule.tos == 0 || rule.tos == flow.tos);
    matched != rule.invert
}

/// The devices by which a decision lets a packet leave.
pub fn output_links(decision: &Decision<'_>) -> BTreeSet<u32> {
    match decision {
        Decision::Route { hops, .. } => hops.iter().filter_map(|hop| hop.link).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(destination: Ipv4Net, metric: u32, tos: u8, kind: RouteKind) -> Route {
        Route { destination, kind, table: TABLE_MAIN, protocol: 3, metric, tos, ..Route::default() }
    }

    fn flow(destination: Ipv4Addr) -> Flow {
        Flow { source: None, destination, input_link: None, mark: 0, tos: 0 }
    }

    /// What `look_up` does, by looking at every route.
    fn oracle<'a>(sample: &'a Sample, flow: &Flow) -> Option<&'a Route> {
        sample
            .routes
            .iter()
            .filter(|route| {
                route.destination.contains(&flow.destination) && (route.tos == 0 || route.tos == flow.tos)
            })
            .max_by_key(|route| (route.destination.prefix_len(), route.tos, u32::MAX - route.metric))
    }

    fn any_route() -> impl Strategy<Value = Route> {
        (0u32..4, 0u8..=32, 0u32..3, prop::sample::select(vec![0u8, 16])).prop_map(
            |(bits, length, metric, tos)| {
                let address = Ipv4Addr::from(0x0a00_0000 | (bits << 6) | bits);
                let destination = Ipv4Net::new(address, length).unwrap().trunc();
                route(destination, metric, tos, RouteKind::Blackhole)
            },
        )
    }

    proptest! {
        #[test]
        fn the_look_up_agrees_with_a_walk_over_all_routes(
            routes in prop::collection::vec(any_route(), 0..40),
            destination in 0u32..1024,
            tos in prop::sample::select(vec![0u8, 16]),
        ) {
            let mut routes = routes;
            routes.sort_by_key(|route| (route.destination, route.tos, route.metric));
            routes.dedup_by_key(|route| (route.destination, route.tos, route.metric));
            let sample = Sample { routes, rules: vec![Rule::for_all(32766, TABLE_MAIN)], ..Sample::default() };
            let model = Model::new(&sample);
            let flow = Flow { tos, ..flow(Ipv4Addr::from(0x0a00_0000 | destination)) };
            let expected = oracle(&sample, &flow).map_or(Decision::NoRoute, |route| Decision::Route { route, hops: vec![] });
            prop_assert_eq!(look_up(&model, &flow), expected);
        }
    }

    #[test]
    fn a_throw_route_and_a_suppressed_one_go_on_to_the_next_rule() {
        let default: Ipv4Net = "0.0.0.0/0".parse().unwrap();
        let mut thrown = route("10.0.0.0/8".parse().unwrap(), 0, 0, RouteKind::Throw);
        thrown.table = 100;
        let mut suppressed = route(default, 0, 0, RouteKind::Unreachable);
        suppressed.table = 101;
        let last = route(default, 0, 0, RouteKind::Prohibit);
        let rules = vec![
            Rule::for_all(1, 100),
            Rule { suppress_prefix_length: Some(0), ..Rule::for_all(2, 101) },
            Rule::for_all(32766, TABLE_MAIN),
        ];
        let sample = Sample { routes: vec![thrown, suppressed, last], rules, ..Sample::default() };
        let model = Model::new(&sample);
        let decision = look_up(&model, &flow(Ipv4Addr::new(10, 0, 0, 1)));
        assert!(
            matches!(decision, Decision::Route { route, .. } if route.kind == RouteKind::Prohibit),
            "{decision:?}"
        );
    }

    #[test]
    fn a_rule_that_is_not_understood_leaves_the_look_up_undecided() {
        let rules = vec![Rule { unsupported: vec!["UidRange".to_owned()], ..Rule::for_all(1, TABLE_MAIN) }];
        let sample = Sample { rules, ..Sample::default() };
        let model = Model::new(&sample);
        let decision = look_up(&model, &flow(Ipv4Addr::new(10, 0, 0, 1)));
        assert!(matches!(decision, Decision::Undecided { .. }), "{decision:?}");
    }

    #[test]
    fn a_route_whose_only_device_is_down_is_passed_over() {
        let mut dead = route("10.0.0.0/24".parse().unwrap(), 0, 0, RouteKind::Unicast);
        dead.hops.push(Hop { link: Some(1), dead: true, weight: 1, ..Hop::default() });
        let sample =
            Sample { routes: vec![dead], rules: vec![Rule::for_all(32766, TABLE_MAIN)], ..Sample::default() };
        let model = Model::new(&sample);
        assert_eq!(look_up(&model, &flow(Ipv4Addr::new(10, 0, 0, 1))), Decision::NoRoute);
    }
}
