//! The remote trace API from both ends, over real sockets and with certificates of every kind: what is asked, what is
//! refused, and in which words. What follows the packets is made up here; scenarios show it on real nodes.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod node;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod traces;
