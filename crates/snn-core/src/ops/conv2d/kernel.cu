// What a convolution needs beside cuDNN's: its bias, and the gradient of it.

// y[n, o, ...] += bias[o]
extern "C" __global__ void __launch_bounds__(256) add_bias(
    float *__restrict__ y,
    const float *__restrict__ bias,
    const unsigned plane,
    const unsigned channels,
    const unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        y[i] += bias[i / plane % channels];
    }
}

// Sums over the positions of one channel (blockIdx.x) in one share of the images (blockIdx.y), added in an order that
// depends on the sizes alone: first each thread its own, then the threads pairwise.
extern "C" __global__ void __launch_bounds__(256) partial_sums(
    const float *__restrict__ gy,
    float *__restrict__ sums,
    const unsigned images,
    const unsigned channels,
    const unsigned plane,
    // Images of a share.
    const unsigned share) {
    __shared__ float lanes[256];
    const unsigned first = blockIdx.y * share;
    const unsigned count = (min(first + share, images) - first) * plane;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
        const size_t image = first + i / plane;
        sum += gy[(image * channels + blockIdx.x) * plane + i % plane];
    }
    lanes[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            lanes[threadIdx.x] += lanes[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        sums[size_t(blockIdx.y) * channels + blockIdx.x] = lanes[0];
    }
}

// The sum of a channel over all shares, one after another.
extern "C" __global__ void __launch_bounds__(256) whole_sums(
    const float *__restrict__ sums, float *__restrict__ whole, const unsigned shares, const unsigned channels) {
    const unsigned channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) {
        return;
    }
    float sum = 0.0f;
    for (unsigned share = 0; share < shares; ++share) {
        sum += sums[size_t(share) * channels + channel];
    }
    whole[channel] = sum;
}
