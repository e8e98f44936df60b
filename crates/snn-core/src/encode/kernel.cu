// Signed Poisson spikes with the bits of the CPU's generator, and the sum over time that is their gradient.

struct Draw {
    // Pixels of a sample.
    unsigned pixels;
    // N
    unsigned samples;
    // The first step.
    unsigned first;
    // Steps drawn.
    unsigned steps;
    // The seed.
    unsigned key[2];
};

// Philox 4x32-10 (Salmon et al. 2011), in place.
static __device__ void philox(unsigned counter[4], unsigned key0, unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long a = 0xD2511F53ull * counter[0];
        const unsigned long long b = 0xCD9E8D57ull * counter[2];
        counter[0] = unsigned(b >> 32) ^ counter[1] ^ key0;
        counter[1] = unsigned(b);
        counter[2] = unsigned(a >> 32) ^ counter[3] ^ key1;
        counter[3] = unsigned(a);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// One thread per four pixels of a sample, which share a counter, and per row of the grid's steps.
extern "C" __global__ void __launch_bounds__(256) poisson(
    const float *__restrict__ images,
    const unsigned long long *__restrict__ ids,
    float *__restrict__ spikes,
    const Draw p) {
    const unsigned blocks = (p.pixels + 3) / 4;
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned sample = thread / blocks;
    const unsigned block = thread % blocks;
    if (sample >= p.samples) {
        return;
    }
    const unsigned long long id = ids[sample];
    const unsigned pixel = block * 4;
    const unsigned lanes = min(4u, p.pixels - pixel);
    float x[4];
#pragma unroll
    for (unsigned lane = 0; lane < 4; ++lane) {
        x[lane] = lane < lanes ? images[size_t(sample) * p.pixels + pixel + lane] : 0.0f;
    }
    for (unsigned t = blockIdx.y; t < p.steps; t += gridDim.y) {
        unsigned words[4] = {block, p.first + t, unsigned(id), unsigned(id >> 32)};
        philox(words, p.key[0], p.key[1]);
        float s[4];
#pragma unroll
        for (unsigned lane = 0; lane < 4; ++lane) {
            // uniform in [0, 1) with 24 bits, exact in f32
            const float unit = float(words[lane] >> 8) * (1.0f / 16777216.0f);
            s[lane] = unit <= fabsf(x[lane]) && x[lane] != 0.0f ? copysignf(1.0f, x[lane]) : 0.0f;
        }
        float *out = spikes + (size_t(t) * p.samples + sample) * p.pixels + pixel;
        if (p.pixels % 4 == 0) {
            // the start of a row is a multiple of four numbers from that of the buffer
            *reinterpret_cast<float4 *>(out) = make_float4(s[0], s[1], s[2], s[3]);
        } else {
            for (unsigned lane = 0; lane < lanes; ++lane) {
                out[lane] = s[lane];
            }
        }
    }
}

// Sum over the steps, step after step.
extern "C" __global__ void __launch_bounds__(256) total(
    const float *__restrict__ x, float *__restrict__ sum, const unsigned steps, const unsigned len) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= len) {
        return;
    }
    float total = 0.0f;
#pragma unroll 8
    for (unsigned t = 0; t < steps; ++t) {
        total += x[size_t(t) * len + i];
    }
    sum[i] = total;
}
