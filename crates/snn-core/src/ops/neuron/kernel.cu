// The neuron scan: one thread per neuron, its membrane in a register over all steps.
//
// Memory is touched as little as it can be: the forward pass reads the currents and writes the spikes, the backward pass
// reads the currents and the gradient of the spikes and writes the gradient of the currents, each once. For that a
// thread holds the membranes of STEPS steps at a time; where there are more steps, the forward pass keeps the membrane
// at every STEPS-th step, from which the backward pass goes forward again.
//
// Compiled without contraction to fused multiply-adds: each operation rounds once, in the order of the CPU's kernel, so
// that membranes and spikes are those of the CPU bit for bit.

// Currents, or membranes, that a thread holds.
constexpr unsigned STEPS = 16;

struct Settings {
    // T
    unsigned steps;
    // N * C * ...
    unsigned neurons;
    // Neurons of one channel of one sample.
    unsigned plane;
    // Thresholds.
    unsigned channels;
    // Whether the reset is to zero.
    unsigned hard;
    // Whether a membrane at the threshold fires.
    unsigned at;
    float leak;
    // 0 if the spike inside the reset is a constant, else 1.
    float through_reset;
    // The surrogate's parameter.
    float surrogate;
};

static __device__ float threshold_of(const Settings &p, const float *threshold, unsigned neuron) {
    return threshold[p.channels == 1 ? 0 : neuron / p.plane % p.channels];
}

// Whether a membrane is over its threshold, as 0 or 1.
static __device__ float fires(const Settings &p, float u, float threshold) {
    return (p.at ? u >= threshold : u > threshold) ? 1.0f : 0.0f;
}

static __device__ float reset(const Settings &p, float u, float s, float threshold) {
    return s == 0.0f ? u : p.hard ? 0.0f : u - threshold;
}

// The numbers of a neuron at the steps from `first` on: all loads are under way before the first is needed.
static __device__ void load(const Settings &p, const float *__restrict__ from, unsigned first, unsigned neuron, float to[STEPS]) {
#pragma unroll
    for (unsigned k = 0; k < STEPS; ++k) {
        to[k] = first + k < p.steps ? from[size_t(first + k) * p.neurons + neuron] : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(256) neuron_scan_forward(
    const float *__restrict__ currents,
    const float *__restrict__ thresholds,
    const float *__restrict__ membrane,
    float *__restrict__ spikes,
    float *__restrict__ last,
    // The membrane before the steps STEPS, 2 STEPS, ..., or null.
    float *__restrict__ kept,
    const Settings p) {
    const unsigned neuron = blockIdx.x * blockDim.x + threadIdx.x;
    if (neuron >= p.neurons) {
        return;
    }
    const float threshold = threshold_of(p, thresholds, neuron);
    float v = membrane[neuron];
    for (unsigned first = 0; first < p.steps; first += STEPS) {
        if (first > 0 && kept != nullptr) {
            kept[size_t(first / STEPS - 1) * p.neurons + neuron] = v;
        }
        float i[STEPS];
        load(p, currents, first, neuron, i);
#pragma unroll
        for (unsigned k = 0; k < STEPS; ++k) {
            if (first + k < p.steps) {
                const float u = p.leak * v + i[k];
                const float s = fires(p, u, threshold);
                v = reset(p, u, s, threshold);
                spikes[size_t(first + k) * p.neurons + neuron] = s;
            }
        }
    }
    last[neuron] = v;
}

// Derivatives of the surrogates, each with its parameter.

struct PiecewiseLinear {
    static __device__ float derivative(float scale, float x) {
        return scale * fmaxf(1.0f - fabsf(x), 0.0f);
    }
};

struct Atan {
    static __device__ float derivative(float alpha, float x) {
        const float y = 1.57079632679489661923f * alpha * x;
        return 0.5f * alpha / (1.0f + y * y);
    }
};

struct Sigmoid {
    static __device__ float derivative(float alpha, float x) {
        const float s = 1.0f / (1.0f + expf(-alpha * x));
        return alpha * s * (1.0f - s);
    }
};

struct Rectangular {
    static __device__ float derivative(float width, float x) {
        return fabsf(x) < 0.5f * width ? 1.0f / width : 0.0f;
    }
};

struct SuperSpike {
    static __device__ float derivative(float beta, float x) {
        const float y = 1.0f + beta * fabsf(x);
        return 1.0f / (y * y);
    }
};

template <typename Surrogate>
static __device__ void backward(
    const float *__restrict__ currents,
    const float *__restrict__ thresholds,
    const float *__restrict__ membrane,
    const float *__restrict__ kept,
    const float *__restrict__ g_spikes,
    const float *__restrict__ g_last,
    float *__restrict__ g_currents,
    float *__restrict__ g_membrane,
    const Settings &p) {
    const unsigned neuron = blockIdx.x * blockDim.x + threadIdx.x;
    if (neuron >= p.neurons) {
        return;
    }
    const float threshold = threshold_of(p, thresholds, neuron);
    const float inverse = 1.0f / threshold;
    float g_v = g_last != nullptr ? g_last[neuron] : 0.0f;
    for (unsigned chunk = (p.steps - 1) / STEPS + 1; chunk-- > 0;) {
        const unsigned first = chunk * STEPS;
        float v = chunk == 0 ? membrane[neuron] : kept[size_t(chunk - 1) * p.neurons + neuron];
        // the currents, then the membranes that they lead to
        float u[STEPS];
        load(p, currents, first, neuron, u);
        float g[STEPS] = {};
        if (g_spikes != nullptr) {
            load(p, g_spikes, first, neuron, g);
        }
#pragma unroll
        for (unsigned k = 0; k < STEPS; ++k) {
            u[k] = p.leak * v + u[k];
            v = reset(p, u[k], fires(p, u[k], threshold), threshold);
        }
#pragma unroll
        for (unsigned back = 1; back <= STEPS; ++back) {
            const unsigned k = STEPS - back;
            if (first + k < p.steps) {
                const float slope = Surrogate::derivative(p.surrogate, u[k] * inverse - 1.0f) * inverse;
                const float keeps = p.hard ? 1.0f - fires(p, u[k], threshold) : 1.0f;
                const float taken = p.hard ? u[k] : threshold;
                const float g_spike = g[k] - p.through_reset * taken * g_v;
                const float g_u = g_v * keeps + g_spike * slope;
                g_currents[size_t(first + k) * p.neurons + neuron] = g_u;
                g_v = p.leak * g_u;
            }
        }
    }
    g_membrane[neuron] = g_v;
}

#define BACKWARD(name, Surrogate)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(                                                           \
        const float *__restrict__ currents,                                                                           \
        const float *__restrict__ thresholds,                                                                         \
        const float *__restrict__ membrane,                                                                           \
        const float *__restrict__ kept,                                                                               \
        const float *__restrict__ g_spikes,                                                                           \
        const float *__restrict__ g_last,                                                                             \
        float *__restrict__ g_currents,                                                                               \
        float *__restrict__ g_membrane,                                                                               \
        const Settings p) {                                                                                           \
        backward<Surrogate>(currents, thresholds, membrane, kept, g_spikes, g_last, g_currents, g_membrane, p);       \
    }

BACKWARD(neuron_scan_backward_piecewise_linear, PiecewiseLinear)
BACKWARD(neuron_scan_backward_atan, Atan)
BACKWARD(neuron_scan_backward_sigmoid, Sigmoid)
BACKWARD(neuron_scan_backward_rectangular, Rectangular)
BACKWARD(neuron_scan_backward_super_spike, SuperSpike)
