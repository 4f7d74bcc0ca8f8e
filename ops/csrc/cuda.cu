// The operations of this folder on a CUDA GPU: plain C functions over raw pointers and a stream, without any header of torch.
// ops/native.py calls them. The formulas are explained in the Python files of the folder above; cpu.cpp has the same for a CPU.
//
// A tensor has the shape (n, c, p): pictures, channels and positions. It is contiguous, so that positions are neighbours in memory,
// or channels-last, so that channels are. Half precisions are computed in float32. Indices have 64 bits wherever a tensor's size
// enters. A nan among the inputs comes out as nan.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace {

enum Act { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

template <class T> struct Math { using type = float; };
template <> struct Math<double> { using type = double; };

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T> __device__ inline T narrow(typename Math<T>::type x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline double narrow<double>(double x) { return x; }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half(x); }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16(x); }

template <class T> __device__ inline T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }

// The ORDER-th derivative of an activation at u.
template <int ORDER, class T> __device__ inline T activation(int act, T u, T alpha) {
  const T selu_alpha = T(1.6732632423543772848170429916717), selu_scale = T(1.0507009873554804934193349852946);
  switch (act) {
    case LINEAR: return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
    case RELU: return ORDER == 0 ? (u <= 0 ? T(0) : u) : ORDER == 1 ? (u <= 0 ? T(0) : T(1)) : T(0);
    case LRELU: return ORDER == 0 ? (u > 0 ? u : u * alpha) : ORDER == 1 ? (u > 0 ? T(1) : alpha) : T(0);
    case TANH: {
      const T t = tanh(u);
      return ORDER == 0 ? t : ORDER == 1 ? 1 - t * t : -2 * t * (1 - t * t);
    }
    case SIGMOID: {
      const T s = sigmoid(u);
      return ORDER == 0 ? s : ORDER == 1 ? s * (1 - s) : s * (1 - s) * (1 - 2 * s);
    }
    case ELU:
      if (u > 0) return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
      return ORDER == 0 ? expm1(u) : exp(u);
    case SELU:
      if (u > 0) return ORDER == 0 ? selu_scale * u : ORDER == 1 ? selu_scale : T(0);
      return selu_scale * selu_alpha * (ORDER == 0 ? expm1(u) : exp(u));
    case SOFTPLUS: {
      if (ORDER == 0) return (u > 0 ? u : T(0)) + log1p(exp(u > 0 ? -u : u));
      const T s = sigmoid(u);
      return ORDER == 1 ? s : s * (1 - s);
    }
    default: {
      const T s = sigmoid(u);
      return ORDER == 0 ? u * s : ORDER == 1 ? s + u * s * (1 - s) : s * (1 - s) * (2 + u * (1 - 2 * s));
    }
  }
}

// gain * act(u), or factor times its derivative, which is zero where the clamp holds the value. A nan is never clamped.
template <int ORDER, class T> __device__ inline T element(int act, T factor, T u, T alpha, T gain, T clamp) {
  const T y = gain * activation<0>(act, u, alpha);
  if (ORDER == 0) return y > clamp ? clamp : y < -clamp ? -clamp : y;
  return y != y || (y < 0 ? -y : y) <= clamp ? factor * gain * activation<ORDER>(act, u, alpha) : T(0);
}

// What bias_act reads, and the shape (n, c, p). bias, noise and scale may be null.
template <class T> struct Inputs {
  const T *x, *bias, *noise, *scale;
  int64_t noise_n, n, c, p;
  bool last;
  int act;
  typename Math<T>::type alpha, gain, clamp;

  __device__ inline typename Math<T>::type u(typename Math<T>::type value, int64_t n_, int64_t c_, int64_t p_) const {
    using M = typename Math<T>::type;
    M result = scale ? value * widen(scale[n_ * c + c_]) : value;
    if (noise) result += widen(noise[(noise_n > 1 ? n_ : 0) * p + p_]);
    return bias ? result + widen(bias[c_]) : result;
  }
};

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int RUN = 16;                     // so many numbers are added in their own precision, then these sums in float64
constexpr int64_t FEW_POSITIONS = 1 << 15;  // with fewer, one thread for each position would leave most of a GPU idle

// Division by a number that stays the same: a multiplication and a shift, as long as no dividend reaches 2^31 (Granlund and
// Montgomery, "Division by Invariant Integers using Multiplication", 1994, section 4).
struct Divisor {
  int64_t by;
  uint32_t factor = 0;
  int shift = 0;
  bool small;

  Divisor(int64_t by_, int64_t largest) : by(by_ < 1 ? 1 : by_), small(by <= largest && largest < int64_t(1) << 31) {
    if (!small) return;
    while (int64_t(1) << shift < by) shift++;
    factor = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - by)) / by + 1);
  }
  __device__ inline int64_t quotient(int64_t x) const {
    if (!small) return x / by;
    const uint32_t low = uint32_t(x);
    return (uint32_t(uint64_t(low) * factor >> 32) + low) >> shift;
  }
};

template <class T, int COUNT> struct alignas(sizeof(T) * COUNT) Pack { T at[COUNT]; };

// COUNT neighbours per thread, which share picture and channel (contiguous) or picture and position (channels-last).
template <class T, int ORDER, int COUNT>
__global__ void bias_act_kernel(const T* factor, T* y, Inputs<T> o, Divisor by_inner, Divisor by_outer) {
  using M = typename Math<T>::type;
  const int64_t packs = o.n * o.c * o.p / COUNT;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < packs; i += int64_t(gridDim.x) * THREADS) {
    const int64_t line = by_inner.quotient(i), from = (i - line * by_inner.by) * COUNT;
    const int64_t n = by_outer.quotient(line), other = line - n * by_outer.by;
    const Pack<T, COUNT> x = reinterpret_cast<const Pack<T, COUNT>*>(o.x)[i];
    Pack<T, COUNT> m, out;
    if (ORDER) m = reinterpret_cast<const Pack<T, COUNT>*>(factor)[i];
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
      const M u = o.last ? o.u(widen(x.at[k]), n, from + k, other) : o.u(widen(x.at[k]), n, other, from + k);
      out.at[k] = narrow<T>(element<ORDER>(o.act, ORDER ? M(widen(m.at[k])) : M(1), u, o.alpha, o.gain, o.clamp));
    }
    reinterpret_cast<Pack<T, COUNT>*>(y)[i] = out;
  }
}

template <class M> __device__ inline M warp_summed(M x) {  // over the lanes of a warp; the result is in its lane 0
  for (int k = 16; k; k >>= 1) x += __shfl_down_sync(0xffffffffu, x, k);
  return x;
}

__device__ inline double summed(double x, double* shared) {  // over the block; the result is in thread 0
  x = warp_summed(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  if (threadIdx.x < 32) {
    x = threadIdx.x < THREADS / 32 ? shared[threadIdx.x] : 0.0;
    x = warp_summed(x);
  }
  return x;
}

// dx and, for each plane, the sums over one of `parts` stretches of it: dbias and dscale are (parts, n, c). A thread adds RUN
// numbers in their own precision, and these sums in float64, which is slow on most GPUs.
template <class T> __global__ void backward_planes(const T* g, T* dx, double* dbias, double* dscale, Inputs<T> o, int64_t parts) {
  using M = typename Math<T>::type;
  __shared__ double shared[THREADS / 32];
  for (int64_t job = blockIdx.x; job < o.n * o.c * parts; job += gridDim.x) {
    const int64_t plane = job / parts, part = job % parts, n = plane / o.c, c = plane % o.c;
    const M s = o.scale ? M(widen(o.scale[plane])) : M(1);
    double sum = 0, along = 0;
    const int64_t end = (part + 1) * o.p / parts;
    for (int64_t i = part * o.p / parts + threadIdx.x; i < end;) {
      M run_sum = 0, run_along = 0;
      for (int k = 0; k < RUN && i < end; k++, i += THREADS) {
        const int64_t at = plane * o.p + i;
        const M x = widen(o.x[at]), du = element<1>(o.act, M(widen(g[at])), o.u(x, n, c, i), o.alpha, o.gain, o.clamp);
        if (dx) dx[at] = narrow<T>(du * s);
        run_sum += du;
        run_along += du * x;
      }
      if (dbias) sum += run_sum;
      if (dscale) along += run_along;
    }
    if (dbias) {
      sum = summed(sum, shared);
      if (threadIdx.x == 0) dbias[part * o.n * o.c + plane] = sum;
    }
    if (dscale) {
      along = summed(along, shared);
      if (threadIdx.x == 0) dscale[part * o.n * o.c + plane] = along;
    }
  }
}

// The same for channels-last. A block has 32 channels of one stretch of a picture's positions, and each of its warps has every
// WARPS-th position.
template <class T> __global__ void backward_rows(const T* g, T* dx, double* dbias, double* dscale, Inputs<T> o, int64_t parts) {
  using M = typename Math<T>::type;
  __shared__ double of_bias[THREADS];
  __shared__ double of_scale[THREADS];
  const int64_t columns = (o.c + 31) / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t job = blockIdx.x; job < o.n * columns * parts; job += gridDim.x) {
    const int64_t part = job % parts, n = job / parts / columns, c = job / parts % columns * 32 + lane;
    const bool inside = c < o.c;  // lanes without a channel still meet the barriers
    const M s = o.scale && inside ? M(widen(o.scale[n * o.c + c])) : M(1);
    double sum = 0, along = 0;
    const int64_t end = inside ? (part + 1) * o.p / parts : 0;
    for (int64_t i = part * o.p / parts + warp; i < end;) {
      M run_sum = 0, run_along = 0;
      for (int k = 0; k < RUN && i < end; k++, i += WARPS) {
        const int64_t at = (n * o.p + i) * o.c + c;
        const M x = widen(o.x[at]), du = element<1>(o.act, M(widen(g[at])), o.u(x, n, c, i), o.alpha, o.gain, o.clamp);
        if (dx) dx[at] = narrow<T>(du * s);
        run_sum += du;
        run_along += du * x;
      }
      if (dbias) sum += run_sum;
      if (dscale) along += run_along;
    }
    if (!dbias && !dscale) continue;
    __syncthreads();  // the sums of the job before have been read
    of_bias[threadIdx.x] = sum, of_scale[threadIdx.x] = along;
    __syncthreads();
    if (warp > 0 || !inside) continue;
    for (int k = 1; k < WARPS; k++) sum += of_bias[k * 32 + lane], along += of_scale[k * 32 + lane];
    if (dbias) dbias[(part * o.n + n) * o.c + c] = sum;
    if (dscale) dscale[(part * o.n + n) * o.c + c] = along;
  }
}

// The gradient of the noise, summed over the channels: a thread for each position.
template <class T> __global__ void backward_noise(const T* g, T* dnoise, Inputs<T> o) {
  using M = typename Math<T>::type;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < o.n * o.p; i += int64_t(gridDim.x) * THREADS) {
    const int64_t n = i / o.p, p = i % o.p;
    M sum = 0;
    for (int64_t c = 0; c < o.c; c++) {
      const int64_t at = o.last ? i * o.c + c : (n * o.c + c) * o.p + p;
      sum += element<1>(o.act, M(widen(g[at])), o.u(widen(o.x[at]), n, c, p), o.alpha, o.gain, o.clamp);
    }
    dnoise[i] = narrow<T>(sum);
  }
}

// The same with a warp for each position, whose lanes share the channels.
template <class T> __global__ void backward_noise_by_warps(const T* g, T* dnoise, Inputs<T> o) {
  using M = typename Math<T>::type;
  const int lane = threadIdx.x % 32;
  for (int64_t i = blockIdx.x * int64_t(WARPS) + threadIdx.x / 32; i < o.n * o.p; i += int64_t(gridDim.x) * WARPS) {
    const int64_t n = i / o.p, p = i % o.p;
    M sum = 0;
    for (int64_t c = lane; c < o.c; c += 32) {
      const int64_t at = o.last ? i * o.c + c : (n * o.c + c) * o.p + p;
      sum += element<1>(o.act, M(widen(g[at])), o.u(widen(o.x[at]), n, c, p), o.alpha, o.gain, o.clamp);
    }
    sum = warp_summed(sum);
    if (lane == 0) dnoise[i] = narrow<T>(sum);
  }
}

constexpr int MOST_TAPS = 1024;  // that fit into a block's shared memory
constexpr int ROWS = 8;          // that a thread of fir4_kernel makes

// One axis of upfirdn2d: pixel i of the result is the sum over k of taps[k] times pixel i * down + k - before of the picture that
// has up - 1 zeros after each of its `size` pixels.
struct Axis {
  int64_t size, out, taps, up, down, before;
  Divisor by_up;

  Axis(int64_t size_, int64_t out_, int64_t taps_, int64_t up_, int64_t down_, int64_t before_)
      : size(size_), out(out_), taps(taps_), up(up_), down(down_), before(before_),
        by_up(up_, out_ * down_ + up_ + (before_ < 0 ? -before_ : 0)) {}

  // The first pixel under the taps, its tap, and how many pixels there are from it on. The next one is under the tap `up` further.
  __device__ inline void under(int64_t i, int64_t& pixel, int& tap, int& pixels) const {
    const int64_t first = i * down - before;
    pixel = first <= 0 ? 0 : by_up.quotient(first + up - 1);
    tap = int(pixel * up - first < taps ? pixel * up - first : taps);
    pixels = int(size - pixel < taps ? size - pixel : taps);
  }
};

// `inner` numbers lie side by side for each pixel: 1 for contiguous planes, c for channels-last.
struct Fir {
  int64_t planes, h, w, inner, oh, ow;
  Axis y, x;
  Divisor by_inner, by_ow, by_oh;

  Fir(int64_t planes_, int64_t h_, int64_t w_, int64_t inner_, int64_t oh_, int64_t ow_, Axis y_, Axis x_)
      : planes(planes_), h(h_), w(w_), inner(inner_), oh(oh_), ow(ow_), y(y_), x(x_), by_inner(inner_, numbers()),
        by_ow(ow_, numbers()), by_oh(oh_, numbers()) {}
  int64_t numbers() const { return planes * oh * ow * inner; }  // of the result
};

// One number of the result for each thread; neighbouring threads read neighbouring pixels, which the cache then has.
template <class T> __global__ void upfirdn2d_kernel(const T* x, const typename Math<T>::type* f, T* y, Fir o) {
  using M = typename Math<T>::type;
  __shared__ M taps[MOST_TAPS];
  const int up = int(o.x.up), fh = int(o.y.taps), fw = int(o.x.taps);
  for (int k = threadIdx.x; k < fh * fw; k += THREADS) taps[k] = f[k];
  __syncthreads();
  const int64_t count = o.planes * o.oh * o.ow * o.inner;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < count; i += int64_t(gridDim.x) * THREADS) {
    const int64_t pixel = o.by_inner.quotient(i), row = o.by_ow.quotient(pixel), plane = o.by_oh.quotient(row);
    int64_t first_x, first_y;
    int tap_x, tap_y, columns, rows;
    o.x.under(pixel - row * o.ow, first_x, tap_x, columns);
    o.y.under(row - plane * o.oh, first_y, tap_y, rows);
    const int64_t first = ((plane * o.h + first_y) * o.w + first_x) * o.inner + (i - pixel * o.inner);
    M sum = 0;
    for (int ky = tap_y, r = 0; ky < fh && r < rows; ky += up, r++)
      for (int kx = tap_x, k = 0; kx < fw && k < columns; kx += up, k++)
        sum += taps[ky * fw + kx] * widen(x[first + (r * o.w + k) * o.inner]);
    y[i] = narrow<T>(sum);
  }
}

// The filter along one axis of (outer, size, inner), to (outer, out, inner). Two such passes make a separable filter.
template <class FROM, class TO, class M>
__global__ void axis_kernel(const FROM* x, const M* f, TO* y, Axis o, int64_t outer, int64_t inner, Divisor by_inner, Divisor by_out) {
  __shared__ M taps[MOST_TAPS];
  const int up = int(o.up), count = int(o.taps);
  for (int k = threadIdx.x; k < count; k += THREADS) taps[k] = f[k];
  __syncthreads();
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < outer * o.out * inner; i += int64_t(gridDim.x) * THREADS) {
    const int64_t pixel = by_inner.quotient(i), line = by_out.quotient(pixel);
    int64_t first_pixel;
    int tap, pixels;
    o.under(pixel - line * o.out, first_pixel, tap, pixels);
    const int64_t first = (line * o.size + first_pixel) * inner + (i - pixel * inner);
    M sum = 0;
    for (int k = tap, r = 0; k < count && r < pixels; k += up, r++) sum += taps[k] * M(widen(x[first + r * inner]));
    y[i] = narrow<TO>(sum);
  }
}

// No resampling and four by four taps, as after each enlarging convolution: a thread slides down a column of ROWS pixels, and keeps
// the four rows under the filter in registers.
template <class T>
__global__ void fir4_kernel(const T* x, const typename Math<T>::type* f, T* y, Fir o, Divisor by_across, Divisor by_stripes) {
  using M = typename Math<T>::type;
  M t[16];
#pragma unroll
  for (int k = 0; k < 16; k++) t[k] = f[k];
  const int64_t count = o.planes * by_stripes.by * by_across.by;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < count; i += int64_t(gridDim.x) * THREADS) {
    const int64_t line = by_across.quotient(i), column = i - line * by_across.by, px = o.by_inner.quotient(column);
    const int64_t plane = by_stripes.quotient(line), first = (line - plane * by_stripes.by) * ROWS;
    if (px >= o.ow) continue;
    const T* in = x + plane * o.h * o.w * o.inner + (column - px * o.inner);
    M v[4][4];
#pragma unroll
    for (int r = 0; r < ROWS + 3; r++) {
      const int64_t fy = first + r - o.y.before;
      M row[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int64_t fx = px + k - o.x.before;
        row[k] = fy >= 0 && fy < o.h && fx >= 0 && fx < o.w ? M(widen(in[(fy * o.w + fx) * o.inner])) : M(0);
      }
#pragma unroll
      for (int k = 0; k < 4; k++) v[r % 4][k] = row[k];
      if (r >= 3 && first + r - 3 < o.oh) {
        M sum = 0;
#pragma unroll
        for (int a = 0; a < 4; a++)
#pragma unroll
          for (int k = 0; k < 4; k++) sum += t[a * 4 + k] * v[(r + 1 + a) % 4][k];
        y[(plane * o.oh + first + r - 3) * o.ow * o.inner + column] = narrow<T>(sum);
      }
    }
  }
}

// y = r x with r = rsqrt(mean over c of x^2 + eps); or, with g, the gradient r g - r^3 x mean(g x).
template <class M> __device__ inline M rsqrt_of_mean(M squares, int64_t c, M eps) { return M(1) / sqrt(squares / c + eps); }

// A thread for each position.
template <class T>
__global__ void pixel_norm_kernel(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, bool last, typename Math<T>::type eps) {
  using M = typename Math<T>::type;
  for (int64_t i = blockIdx.x * int64_t(THREADS) + threadIdx.x; i < n * p; i += int64_t(gridDim.x) * THREADS) {
    const int64_t step = last ? 1 : p, base = last ? i * c : i / p * c * p + i % p;
    M squares = 0, along = 0;
    for (int64_t k = 0; k < c; k++) {
      const M v = widen(x[base + k * step]);
      squares += v * v;
      if (g) along += v * M(widen(g[base + k * step]));
    }
    const M r = rsqrt_of_mean(squares, c, eps);
    along *= r * r / c;
    for (int64_t k = 0; k < c; k++) {
      const int64_t at = base + k * step;
      y[at] = narrow<T>(g ? r * (M(widen(g[at])) - M(widen(x[at])) * along) : M(widen(x[at])) * r);
    }
  }
}

// The same with a warp for each position, whose lanes share the channels.
template <class T>
__global__ void pixel_norm_by_warps(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, bool last, typename Math<T>::type eps) {
  using M = typename Math<T>::type;
  __shared__ M of_squares[WARPS];
  __shared__ M of_along[WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t from = blockIdx.x * int64_t(WARPS); from < n * p; from += int64_t(gridDim.x) * WARPS) {
    const int64_t i = from + warp, step = last ? 1 : p, base = last ? i * c : i / p * c * p + i % p;
    const int64_t end = i < n * p ? c : 0;  // a warp without a position still meets the barriers
    M squares = 0, along = 0;
    for (int64_t k = lane; k < end; k += 32) {
      const M v = widen(x[base + k * step]);
      squares += v * v;
      if (g) along += v * M(widen(g[base + k * step]));
    }
    squares = warp_summed(squares), along = warp_summed(along);
    __syncthreads();  // the sums of the positions before have been read
    if (lane == 0) of_squares[warp] = squares, of_along[warp] = along;
    __syncthreads();
    const M r = rsqrt_of_mean(of_squares[warp], c, eps);
    along = of_along[warp] * (r * r / c);
    for (int64_t k = lane; k < end; k += 32) {
      const int64_t at = base + k * step;
      y[at] = narrow<T>(g ? r * (M(widen(g[at])) - M(widen(x[at])) * along) : M(widen(x[at])) * r);
    }
  }
}

// True if a warp for each position is expected to be faster than a thread: with few positions, or if the channels, which the lanes
// share, are neighbours in memory.
bool by_warps(int64_t n, int64_t c, int64_t p, bool last) { return c >= 32 && (last || n * p < FEW_POSITIONS); }

// Blocks for so many threads: enough to fill any GPU. Each kernel goes on with the next jobs until all are done.
int blocks(int64_t jobs) {
  const int64_t wanted = (jobs + THREADS - 1) / THREADS;
  return int(wanted < 1 ? 1 : wanted > 65536 ? 65536 : wanted);
}

template <class T, int ORDER> void bias_act_launch(const T* factor, T* y, const Inputs<T>& o, cudaStream_t stream) {
  constexpr int MOST = 16 / sizeof(T);
  const int64_t inner = o.last ? o.c : o.p, count = o.n * o.c * o.p;
  const uintptr_t address = uintptr_t(o.x) | uintptr_t(y) | uintptr_t(factor);
  const Divisor by_outer(o.last ? o.p : o.c, count);
  if (inner % MOST == 0 && address % 16 == 0)
    bias_act_kernel<T, ORDER, MOST><<<blocks(count / MOST), THREADS, 0, stream>>>(factor, y, o, Divisor(inner / MOST, count), by_outer);
  else
    bias_act_kernel<T, ORDER, 1><<<blocks(count), THREADS, 0, stream>>>(factor, y, o, Divisor(inner, count), by_outer);
}

template <class T>
void backward_launch(const T* g, T* dx, double* dbias, double* dscale, T* dnoise, int64_t parts, const Inputs<T>& o, cudaStream_t stream) {
  if (dx || dbias || dscale) {
    const int64_t jobs = o.n * parts * (o.last ? (o.c + 31) / 32 : o.c);
    const int grid = int(jobs > 65536 ? 65536 : jobs);
    if (o.last)
      backward_rows<T><<<grid, THREADS, 0, stream>>>(g, dx, dbias, dscale, o, parts);
    else
      backward_planes<T><<<grid, THREADS, 0, stream>>>(g, dx, dbias, dscale, o, parts);
  }
  if (dnoise && by_warps(o.n, o.c, o.p, o.last))
    backward_noise_by_warps<T><<<blocks(o.n * o.p * 32), THREADS, 0, stream>>>(g, dnoise, o);
  else if (dnoise)
    backward_noise<T><<<blocks(o.n * o.p), THREADS, 0, stream>>>(g, dnoise, o);
}

template <class T> int fir_launch(const T* x, const typename Math<T>::type* f, T* y, const Fir& o, cudaStream_t stream) {
  if (o.y.taps * o.x.taps > MOST_TAPS) return int(cudaErrorInvalidValue);
  if (o.y.taps == 4 && o.x.taps == 4 && o.x.up == 1 && o.x.down == 1) {
    const int64_t stripes = (o.oh + ROWS - 1) / ROWS, across = (o.ow * o.inner + 31) / 32 * 32, count = o.planes * stripes * across;
    fir4_kernel<T><<<blocks(count), THREADS, 0, stream>>>(x, f, y, o, Divisor(across, count), Divisor(stripes, count));
  } else {
    upfirdn2d_kernel<T><<<blocks(o.numbers()), THREADS, 0, stream>>>(x, f, y, o);
  }
  return int(cudaGetLastError());
}

// Along x, and then along y; `between` is (planes, h, ow, inner), in the precision of the sums.
template <class T, class M>
int separable_launch(const T* x, const M* fx, const M* fy, M* between, T* y, const Fir& o, cudaStream_t stream) {
  if (o.y.taps > MOST_TAPS || o.x.taps > MOST_TAPS) return int(cudaErrorInvalidValue);
  const int64_t lines = o.planes * o.h, wide = o.ow * o.inner, middle = lines * wide, count = o.numbers();
  axis_kernel<T, M, M><<<blocks(middle), THREADS, 0, stream>>>(x, fx, between, o.x, lines, o.inner, Divisor(o.inner, middle), Divisor(o.ow, middle));
  axis_kernel<M, T, M><<<blocks(count), THREADS, 0, stream>>>(between, fy, y, o.y, o.planes, wide, Divisor(wide, count), Divisor(o.oh, count));
  return int(cudaGetLastError());
}

template <class T>
void pixel_norm_launch(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, bool last, typename Math<T>::type eps, cudaStream_t stream) {
  if (by_warps(n, c, p, last))
    pixel_norm_by_warps<T><<<blocks(n * p * 32), THREADS, 0, stream>>>(x, g, y, n, c, p, last, eps);
  else
    pixel_norm_kernel<T><<<blocks(n * p), THREADS, 0, stream>>>(x, g, y, n, c, p, last, eps);
}

}  // namespace

#define FUNCTIONS(T, NAME)                                                                                                       \
  extern "C" int bias_act_##NAME##_cuda(int64_t order, const T* factor, const T* x, const T* bias, const T* noise,               \
                                        int64_t noise_n, const T* scale, T* y, int64_t n, int64_t c, int64_t p, int64_t last,    \
                                        int64_t act, double alpha, double gain, double clamp, cudaStream_t stream) {             \
    using M = Math<T>::type;                                                                                                     \
    const Inputs<T> o{x, bias, noise, scale, noise_n, n, c, p, last != 0, int(act), M(alpha), M(gain), M(clamp)};                \
    if (order == 0) bias_act_launch<T, 0>(factor, y, o, stream);                                                                 \
    if (order == 1) bias_act_launch<T, 1>(factor, y, o, stream);                                                                 \
    if (order == 2) bias_act_launch<T, 2>(factor, y, o, stream);                                                                 \
    return int(cudaGetLastError());                                                                                              \
  }                                                                                                                              \
  extern "C" int bias_act_backward_##NAME##_cuda(                                                                                \
      const T* g, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* dx, double* dbias,              \
      double* dscale, T* dnoise, int64_t parts, int64_t n, int64_t c, int64_t p, int64_t last, int64_t act, double alpha,        \
      double gain, double clamp, cudaStream_t stream) {                                                                          \
    using M = Math<T>::type;                                                                                                     \
    const Inputs<T> o{x, bias, noise, scale, noise_n, n, c, p, last != 0, int(act), M(alpha), M(gain), M(clamp)};                \
    backward_launch<T>(g, dx, dbias, dscale, dnoise, parts, o, stream);                                                          \
    return int(cudaGetLastError());                                                                                              \
  }                                                                                                                              \
  extern "C" int upfirdn2d_full_##NAME##_cuda(const T* x, const Math<T>::type* f, T* y, int64_t planes, int64_t h, int64_t w,    \
                                              int64_t inner, int64_t oh, int64_t ow, int64_t fh, int64_t fw, int64_t up,         \
                                              int64_t down, int64_t left, int64_t top, cudaStream_t stream) {                    \
    const Fir o(planes, h, w, inner, oh, ow, Axis(h, oh, fh, up, down, top), Axis(w, ow, fw, up, down, left));                   \
    return fir_launch<T>(x, f, y, o, stream);                                                                                    \
  }                                                                                                                              \
  extern "C" int upfirdn2d_separable_##NAME##_cuda(                                                                              \
      const T* x, const Math<T>::type* fx, const Math<T>::type* fy, Math<T>::type* between, T* y, int64_t planes, int64_t h,     \
      int64_t w, int64_t inner, int64_t oh, int64_t ow, int64_t fh, int64_t fw, int64_t up, int64_t down, int64_t left,          \
      int64_t top, cudaStream_t stream) {                                                                                        \
    const Fir o(planes, h, w, inner, oh, ow, Axis(h, oh, fh, up, down, top), Axis(w, ow, fw, up, down, left));                   \
    return separable_launch<T>(x, fx, fy, between, y, o, stream);                                                                \
  }                                                                                                                              \
  extern "C" int pixel_norm_##NAME##_cuda(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, int64_t last,           \
                                          double eps, cudaStream_t stream) {                                                     \
    pixel_norm_launch<T>(x, g, y, n, c, p, last != 0, Math<T>::type(eps), stream);                                               \
    return int(cudaGetLastError());                                                                                              \
  }

FUNCTIONS(float, f32)
FUNCTIONS(double, f64)
FUNCTIONS(__half, f16)
FUNCTIONS(__nv_bfloat16, bf16)
