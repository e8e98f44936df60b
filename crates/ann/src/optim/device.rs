//! The same update from tensor operations, for devices other than the CPU.

use candle_core::{Tensor, Var};

use super::{Rule, RuleKind};
use crate::Result;

/// Applies `rule` to the variable and its moments.
pub(super) fn update(
    rule: &Rule,
    variable: &Var,
    gradient: &Tensor,
    moments: &mut [Tensor],
) -> Result<()> {
    let weights = variable.as_detached_tensor();
    let gradient = ((gradient * rule.gradient_scale)? + (&weights * rule.l2)?)?;
    let change = match rule.kind {
        RuleKind::Sgd { momentum, nesterov } => match moments {
            [] => gradient,
            [u, ..] => {
                *u = ((&*u * momentum)? + &gradient)?;
                if nesterov {
                    (gradient + (&*u * momentum)?)?
                } else {
                    u.clone()
                }
            }
        },
        RuleKind::Adam {
            beta1,
            beta2,
            epsilon,
            root_correction,
        } => {
            let [m, v, rest @ ..] = moments else {
                unreachable!("Adam keeps at least two moments");
            };
            *m = ((&*m * beta1)? + (&gradient * (1.0 - beta1))?)?;
            *v = ((&*v * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let square = match rest {
                [largest, ..] => {
                    *largest = largest.maximum(&*v)?;
                    largest.clone()
                }
                [] => v.clone(),
            };
            let root = ((square.sqrt()? * (1.0 / root_correction))? + epsilon)?;
            (&*m / root)?
        }
    };
    let updated = ((weights * rule.shrink)? - (change * rule.rate)?)?;
    Ok(variable.set(&updated)?)
}
