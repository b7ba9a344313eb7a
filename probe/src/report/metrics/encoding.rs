//! Metrics as text. The encoder speaks OpenMetrics, where a counter's family is named without `_total`; the older
//! text format names it as its series are, so there a counter's value is written as a gauge's would be.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    catalogue::{Kind, Metric},
    series::{Series, Value},
};

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The richer one, where the header `Accept` takes it.
    pub fn accepted(accept: &str) -> Self {
        let takes_it = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        });
        if takes_it { Self::OpenMetrics } else { Self::Text }
    }
}

/// A metric with its series of this moment.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) metric: &'static Metric,
    pub(super) series: Vec<Series>,
}

/// The text of all families that have a series.
pub(super) fn text(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { families, format }));
    let mut page = String::new();
    let written = match format {
        Format::OpenMetrics => text::encode(&mut page, &registry),
        Format::Text => text::encode_registry(&mut page, &registry),
    };
    // Writing to a string fails never, and the values' own encoders neither.
    written.map_or_else(|_| String::new(), |()| page)
}

#[derive(Debug)]
struct Exposition {
    families: Vec<Family>,
    format: Format,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.families.iter().filter(|family| !family.series.is_empty()) {
            let metric = family.metric;
            let (name, kind) = match self.format {
                Format::OpenMetrics => (metric.family_name(), metric.kind),
                Format::Text => (metric.name, metric.kind.without_info()),
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, None, kind.metric_type())?;
            for series in &family.series {
                self.encode_series(metric.kind, series, &mut encoder)?;
            }
        }
        Ok(())
    }
}

impl Exposition {
    fn encode_series(&self, kind: Kind, series: &Series, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        if kind == Kind::Info && self.format == Format::OpenMetrics {
            return encoder.encode_info(&series.labels);
        }
        if series.labels.is_empty() {
            return self.encode_value(kind, series.value, encoder);
        }
        self.encode_value(kind, series.value, &mut encoder.encode_family(&series.labels)?)
    }

    fn encode_value(&self, kind: Kind, value: Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match value {
            Value::Whole(value) if kind == Kind::Counter && self.format == Format::OpenMetrics => {
                encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
            }
            Value::Whole(value) => encoder.encode_gauge(&value),
            Value::Seconds(value) => encoder.encode_gauge(&value),
        }
    }
}

impl Kind {
    /// The older format knows no info: there it is a gauge.
    fn without_info(self) -> Self {
        if self == Self::Info { Self::Gauge } else { self }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Info => MetricType::Info,
        }
    }
}
