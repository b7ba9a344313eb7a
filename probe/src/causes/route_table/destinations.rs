//! Rows by destination, to find those around a network without looking at every row.

use std::collections::HashMap;

use ipnet::Ipv4Net;

use crate::model::rows::Row;

/// Places of rows, by table and destination.
pub struct Destinations {
    places: HashMap<(u32, Ipv4Net), Vec<usize>>,
}

impl Destinations {
    /// Of the rows that are wanted.
    pub fn of(rows: &[Row<'_>], wanted: impl Fn(&Row<'_>) -> bool) -> Self {
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, row) in rows.iter().enumerate().filter(|(_, row)| wanted(row)) {
            places.entry((row.route.table, row.route.destination)).or_default().push(place);
        }
        Self { places }
    }

    /// Rows of the same table whose destination is the network or holds it, the most specific first.
    pub fn around(&self, table: u32, network: Ipv4Net) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(network), Ipv4Net::supernet)
            .filter_map(move |around| self.places.get(&(table, around)))
            .flatten()
            .copied()
    }

    /// Rows that share their destination with others.
    pub fn shared(&self) -> impl Iterator<Item = (Ipv4Net, &[usize])> {
        let several = self.places.iter().filter(|(_, places)| places.len() > 1);
        several.map(|((_, network), places)| (*network, places.as_slice()))
    }
}
