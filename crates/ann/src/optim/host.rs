//! The update as one parallel pass over memory.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Storage, Tensor, Var};
use rayon::prelude::*;

use super::{Rule, RuleKind};
use crate::Result;

/// Elements per task: large enough to hide the scheduling, and fixed, so that sums don't depend on the thread count.
const CHUNK: usize = 1 << 14;

/// Applies `rule` to the variable and its moments. `gradient` is contiguous and of the variable's shape.
pub(super) fn update(
    rule: &Rule,
    variable: &Var,
    gradient: &Tensor,
    moments: &mut [Vec<f32>],
) -> Result<()> {
    let update = Update {
        rule,
        moments: RefCell::new(moments),
    };
    Ok(variable.as_tensor().inplace_op2(gradient, &update)?)
}

struct Update<'a> {
    rule: &'a Rule,
    moments: RefCell<&'a mut [Vec<f32>]>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weights), CpuStorage::F32(gradient)) = (s1, s2) else {
            candle_core::bail!("optimiser-step needs f32");
        };
        let (Some((start, end)), Some((from, to))) =
            (l1.contiguous_offsets(), l2.contiguous_offsets())
        else {
            candle_core::bail!("optimiser-step needs contiguous tensors");
        };
        apply(
            self.rule,
            &mut weights[start..end],
            &gradient[from..to],
            &mut self.moments.borrow_mut(),
        );
        Ok(())
    }
}

fn apply(rule: &Rule, weights: &mut [f32], gradient: &[f32], moments: &mut [Vec<f32>]) {
    let [scale, rate, l2, shrink] =
        [rule.gradient_scale, rule.rate, rule.l2, rule.shrink].map(|x| x as f32);
    let pairs = weights
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK));
    match rule.kind {
        RuleKind::Sgd { momentum, nesterov } => {
            let momentum = momentum as f32;
            match moments {
                [] => pairs.for_each(|(w, g)| {
                    for (w, g) in w.iter_mut().zip(g) {
                        *w -= rate * (g * scale + l2 * *w);
                    }
                }),
                [u, ..] => pairs.zip(u.par_chunks_mut(CHUNK)).for_each(|((w, g), u)| {
                    for ((w, g), u) in w.iter_mut().zip(g).zip(u) {
                        let g = g * scale + l2 * *w;
                        *u = momentum * *u + g;
                        *w -= rate * if nesterov { g + momentum * *u } else { *u };
                    }
                }),
            }
        }
        RuleKind::Adam {
            beta1,
            beta2,
            epsilon,
            root_correction,
        } => {
            let [keep1, keep2, epsilon] = [beta1, beta2, epsilon].map(|x| x as f32);
            let [new1, new2, inverse_root] =
                [1.0 - beta1, 1.0 - beta2, 1.0 / root_correction].map(|x| x as f32);
            let step =
                move |w: &mut f32, g: f32, m: &mut f32, v: &mut f32, largest: Option<&mut f32>| {
                    let g = g * scale + l2 * *w;
                    *m = keep1 * *m + new1 * g;
                    *v = keep2 * *v + new2 * g * g;
                    let square = match largest {
                        Some(largest) => {
                            *largest = largest.max(*v);
                            *largest
                        }
                        None => *v,
                    };
                    *w = *w * shrink - rate * *m / (square.sqrt() * inverse_root + epsilon);
                };
            match moments {
                [m, v] => pairs
                    .zip(m.par_chunks_mut(CHUNK))
                    .zip(v.par_chunks_mut(CHUNK))
                    .for_each(|(((w, g), m), v)| {
                        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                            step(w, *g, m, v, None);
                        }
                    }),
                [m, v, largest] => pairs
                    .zip(m.par_chunks_mut(CHUNK))
                    .zip(v.par_chunks_mut(CHUNK))
                    .zip(largest.par_chunks_mut(CHUNK))
                    .for_each(|((((w, g), m), v), largest)| {
                        for ((((w, g), m), v), largest) in
                            w.iter_mut().zip(g).zip(m).zip(v).zip(largest)
                        {
                            step(w, *g, m, v, Some(largest));
                        }
                    }),
                other => unreachable!("Adam keeps two or three moments, not {}", other.len()),
            }
        }
    }
}

/// Sum of squares in f64 of a contiguous CPU tensor, in fixed order.
pub(super) fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        return Err(crate::Error::argument(
            "gradients",
            "must be f32 on the CPU and contiguous",
        ));
    };
    let squares = |chunk: &[f32]| {
        chunk
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>()
    };
    let sums: Vec<f64> = values[start..end].par_chunks(CHUNK).map(squares).collect();
    Ok(sums.iter().sum())
}
