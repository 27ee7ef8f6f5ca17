//! The thread that reports to the centre and learns what it wants.

use crate::backoff::Backoff;
use crate::node::Node;

/// Reports until the node is stopped.
pub(crate) fn run(node: &Node) {
    let every = node.settings.report_every;
    let mut backoff = Backoff::new(every, node.settings.backoff_max);
    while !node.is_stopped() {
        let pause = match node.client.report_node(&node.settings.node, &node.report()) {
            Ok(orders) => {
                backoff.succeeded();
                let was_up = node.link.is_up();
                node.link.heard();
                if !was_up {
                    node.bells.deliver.ring();
                    node.bells.update.ring();
                }
                if orders.desired.is_none() {
                    tracing::debug!("the centre deploys no version; the one at hand goes on");
                }
                node.set_desired(orders.desired);
                every
            }
            Err(error) => {
                node.link.lost(&error);
                backoff.failed()
            }
        };
        if !node.is_stopped() {
            node.bells.report.wait(pause);
        }
    }
}
