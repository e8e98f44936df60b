//! The scan written with tensor operations, one step after another: slow, and the measure of the fast one.

use candle_core::Tensor;

use crate::Result;
use crate::neuron::{Firing, NeuronSettings, Reset, Scan};
use crate::surrogate::Surrogate;

/// Same contract as [`crate::neuron::scan`].
pub fn scan(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
) -> Result<Scan> {
    let dims = currents.dims();
    let mut broadcast = vec![1; dims.len() - 1];
    broadcast[1] = threshold.elem_count();
    let threshold = threshold
        .detach()
        .reshape(broadcast)?
        .broadcast_as(&dims[1..])?
        .contiguous()?;
    let mut v = membrane.clone();
    let mut spikes = Vec::with_capacity(dims[0]);
    for t in 0..dims[0] {
        let u = ((v * f64::from(settings.leak))? + currents.get(t)?)?;
        let fired = match settings.firing {
            Firing::Above => u.gt(&threshold)?,
            Firing::AtOrAbove => u.ge(&threshold)?,
        }
        .to_dtype(u.dtype())?;
        let x = ((&u / &threshold)? - 1.0)?;
        // value of the step, gradient of the surrogate: s + (p(x) - p(x)) with the first p tracked
        let smooth = primitive(&settings.surrogate, &x)?;
        let spike = ((&fired - smooth.detach())? + &smooth)?;
        // adding and subtracting p rounds: pin the value back to exactly 0 or 1
        let spike = (&spike + (&fired - &spike)?.detach())?;
        let acting = if settings.detach_reset {
            fired
        } else {
            spike.clone()
        };
        v = match settings.reset {
            Reset::Soft => (&u - (acting * &threshold)?)?,
            Reset::Hard => (&u * (1.0 - acting)?)?,
        };
        spikes.push(spike);
    }
    Ok(Scan {
        spikes: Tensor::stack(&spikes, 0)?,
        membrane: v,
    })
}

/// [`Surrogate::primitive`] as differentiable tensor operations.
fn primitive(surrogate: &Surrogate, x: &Tensor) -> Result<Tensor> {
    let clamp = |low: f64, high: f64| -> Result<Tensor> {
        // candle's clamp has the right gradient only strictly inside: good enough for a reference off the corners
        Ok(x.clamp(low, high)?)
    };
    Ok(match *surrogate {
        Surrogate::PiecewiseLinear { scale } => {
            let y = clamp(-1.0, 1.0)?;
            ((&y - ((&y * y.abs()?)? * 0.5)?)? * f64::from(scale))?
        }
        Surrogate::Atan { alpha } => {
            // d/dx atan is not among candle's operations: use its derivative, held constant, times x
            let y = (x.detach() * (std::f64::consts::FRAC_PI_2 * f64::from(alpha)))?;
            let derivative = ((y.sqr()? + 1.0)?.recip()? * (0.5 * f64::from(alpha)))?;
            (x * derivative)?
        }
        Surrogate::Sigmoid { alpha } => (((x * -f64::from(alpha))?.exp()? + 1.0)?).recip()?,
        Surrogate::Rectangular { width } => {
            let half = 0.5 * f64::from(width);
            (clamp(-half, half)? / f64::from(width))?
        }
        Surrogate::SuperSpike { beta } => (x / ((x.abs()? * f64::from(beta))? + 1.0)?)?,
    })
}
