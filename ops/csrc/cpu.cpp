// The operations of this folder on a CPU: plain C functions over raw pointers. They include no header of torch, so that they compile
// in seconds and depend on no binary interface but that of C. ops/native.py calls them, and the Python files of the folder above
// explain the formulas.
//
// A tensor has the shape (n, c, p): pictures, channels and positions. It is contiguous, so that positions are neighbours in memory,
// or channels-last, so that channels are. A nan among the inputs comes out as nan.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

enum Act { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

constexpr double SELU_ALPHA = 1.6732632423543772848170429916717;
constexpr double SELU_SCALE = 1.0507009873554804934193349852946;

template <class T> inline T sigmoid(T x) { return T(1) / (T(1) + std::exp(-x)); }

// The ORDER-th derivative of an activation at u.
template <int ACT, int ORDER, class T> inline T activation(T u, T alpha) {
  if (ACT == LINEAR) return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
  if (ACT == RELU) return ORDER == 0 ? (u <= 0 ? T(0) : u) : ORDER == 1 ? (u <= 0 ? T(0) : T(1)) : T(0);
  if (ACT == LRELU) return ORDER == 0 ? (u > 0 ? u : u * alpha) : ORDER == 1 ? (u > 0 ? T(1) : alpha) : T(0);
  if (ACT == TANH) {
    T t = std::tanh(u);
    return ORDER == 0 ? t : ORDER == 1 ? 1 - t * t : -2 * t * (1 - t * t);
  }
  if (ACT == SIGMOID) {
    T s = sigmoid(u);
    return ORDER == 0 ? s : ORDER == 1 ? s * (1 - s) : s * (1 - s) * (1 - 2 * s);
  }
  if (ACT == ELU) {
    if (u > 0) return ORDER == 0 ? u : ORDER == 1 ? T(1) : T(0);
    return ORDER == 0 ? std::expm1(u) : std::exp(u);
  }
  if (ACT == SELU) {
    if (u > 0) return ORDER == 0 ? T(SELU_SCALE) * u : ORDER == 1 ? T(SELU_SCALE) : T(0);
    return T(SELU_SCALE * SELU_ALPHA) * (ORDER == 0 ? std::expm1(u) : std::exp(u));
  }
  if (ACT == SOFTPLUS) {
    if (ORDER == 0) return std::max(u, T(0)) + std::log1p(std::exp(-std::abs(u)));
    T s = sigmoid(u);
    return ORDER == 1 ? s : s * (1 - s);
  }
  T s = sigmoid(u);  // SWISH
  return ORDER == 0 ? u * s : ORDER == 1 ? s + u * s * (1 - s) : s * (1 - s) * (2 + u * (1 - 2 * s));
}

// gain * act(u), or factor times its derivative, which is zero where the clamp holds the value. A nan is never clamped.
template <int ACT, int ORDER, class T> inline T element(T factor, T u, T alpha, T gain, T clamp) {
  if (ORDER == 0) {
    T y = gain * activation<ACT, 0>(u, alpha);
    return std::min(std::max(y, -clamp), clamp);
  }
  T d = factor * gain * activation<ACT, ORDER>(u, alpha);
  return std::abs(gain * activation<ACT, 0>(u, alpha)) > clamp ? T(0) : d;
}

struct Layout {
  int64_t n, c, p;
  bool channels_last;
};

constexpr int64_t CHUNK = 2048;  // positions that are computed together: a row of every channel stays in the cache

// ---------------------------------------------------------------------------------------------------------- bias_act

template <int ACT, int ORDER, class T>
void bias_act_run(const T* factor, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* y, Layout l,
                  T alpha, T gain, T clamp, int threads) {
  if (l.channels_last) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < l.n * l.p; i++) {
      const int64_t n = i / l.p, at = i * l.c;
      const T add = noise ? noise[(noise_n > 1 ? n : 0) * l.p + i % l.p] : T(0);
      const T* s = scale ? scale + n * l.c : nullptr;
#pragma omp simd
      for (int64_t c = 0; c < l.c; c++) {
        const T u = (s ? x[at + c] * s[c] : x[at + c]) + add + (bias ? bias[c] : T(0));
        y[at + c] = element<ACT, ORDER>(ORDER ? factor[at + c] : T(1), u, alpha, gain, clamp);
      }
    }
    return;
  }
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
  for (int64_t plane = 0; plane < l.n * l.c; plane++) {
    for (int64_t first = 0; first < l.p; first += CHUNK) {
      const int64_t at = plane * l.p + first, count = std::min(CHUNK, l.p - first);
      const T s = scale ? scale[plane] : T(1), b = bias ? bias[plane % l.c] : T(0);
      const T* add = noise ? noise + (noise_n > 1 ? plane / l.c : 0) * l.p + first : nullptr;
      if (add) {
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
          y[at + i] = element<ACT, ORDER>(ORDER ? factor[at + i] : T(1), x[at + i] * s + add[i] + b, alpha, gain, clamp);
      } else {
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
          y[at + i] = element<ACT, ORDER>(ORDER ? factor[at + i] : T(1), x[at + i] * s + b, alpha, gain, clamp);
      }
    }
  }
}

// The gradients at one position, for all channels: writes dx, adds to the sums of the bias and of the scale, and returns the
// gradient of the noise.
template <int ACT, bool BIAS, bool SCALE, bool NOISE, class T>
inline T backward_position(const T* g, const T* x, const T* scale, T noise, const T* bias, T* dx, T* dbias, T* dscale, int64_t count,
                           T alpha, T gain, T clamp) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < count; c++) {
    const T du = element<ACT, 1>(g[c], x[c] * scale[c] + noise + bias[c], alpha, gain, clamp);
    dx[c] = du * scale[c];
    if (BIAS) dbias[c] += du;
    if (SCALE) dscale[c] += du * x[c];
    if (NOISE) total += du;
  }
  return total;
}

// All first derivatives in one pass. dbias and dscale are (threads, n, c) partial sums; dnoise is (n, p).
template <int ACT, class T>
void bias_act_backward_run(const T* g, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* dx,
                           double* dbias, double* dscale, T* dnoise, Layout l, T alpha, T gain, T clamp, int threads) {
  const int64_t chunks = (l.p + CHUNK - 1) / CHUNK;
  const auto position = std::array{
      backward_position<ACT, false, false, false, T>, backward_position<ACT, false, false, true, T>,
      backward_position<ACT, false, true, false, T>,  backward_position<ACT, false, true, true, T>,
      backward_position<ACT, true, false, false, T>,  backward_position<ACT, true, false, true, T>,
      backward_position<ACT, true, true, false, T>,   backward_position<ACT, true, true, true, T>,
  }[4 * (dbias != nullptr) + 2 * (dscale != nullptr) + (dnoise != nullptr)];
#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
#else
    const int64_t me = 0, all = 1;
#endif
    double* my_bias = dbias ? dbias + me * l.n * l.c : nullptr;
    double* my_scale = dscale ? dscale + me * l.n * l.c : nullptr;
    std::vector<T> sums(2 * l.c), ones(l.c, T(1)), zeros_c(l.c), unused(l.c);
    for (int64_t job = me * l.n * chunks / all; job < (me + 1) * l.n * chunks / all; job++) {
      const int64_t n = job / chunks, first = job % chunks * CHUNK, count = std::min(CHUNK, l.p - first);
      const T* add = noise ? noise + (noise_n > 1 ? n : 0) * l.p + first : nullptr;
      T* out_noise = dnoise ? dnoise + n * l.p + first : nullptr;
      if (l.channels_last) {
        const T* s = scale ? scale + n * l.c : ones.data();
        const T* b = bias ? bias : zeros_c.data();
        for (int64_t from = 0; from < count; from += 32) {  // short sums have type T, and are added in double
          std::fill(sums.begin(), sums.end(), T(0));
          for (int64_t i = from; i < std::min(from + 32, count); i++) {
            const int64_t at = (n * l.p + first + i) * l.c;
            const T total = position(g + at, x + at, s, add ? add[i] : T(0), b, dx ? dx + at : unused.data(), sums.data(),
                                     sums.data() + l.c, l.c, alpha, gain, clamp);
            if (out_noise) out_noise[i] = total;
          }
          for (int64_t c = 0; c < l.c; c++) {
            if (my_bias) my_bias[n * l.c + c] += sums[c];
            if (my_scale) my_scale[n * l.c + c] += sums[l.c + c];
          }
        }
        continue;
      }
      if (out_noise) std::fill(out_noise, out_noise + count, T(0));
      T zeros[CHUNK];
      if (!add) {
        std::memset(zeros, 0, sizeof(T) * count);
        add = zeros;
      }
      T row[CHUNK];
      for (int64_t c = 0; c < l.c; c++) {
        const int64_t plane = n * l.c + c, at = plane * l.p + first;
        const T s = scale ? scale[plane] : T(1), b = bias ? bias[c] : T(0);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) row[i] = element<ACT, 1>(g[at + i], x[at + i] * s + add[i] + b, alpha, gain, clamp);
        if (dx) {
#pragma omp simd
          for (int64_t i = 0; i < count; i++) dx[at + i] = row[i] * s;
        }
        if (out_noise) {
#pragma omp simd
          for (int64_t i = 0; i < count; i++) out_noise[i] += row[i];
        }
        // Short sums have type T, and are added in double.
        for (int64_t k = 0; k < count; k += 128) {
          const int64_t end = std::min(k + 128, count);
          T a = 0, d = 0;
          if (my_bias) {
#pragma omp simd reduction(+ : a)
            for (int64_t i = k; i < end; i++) a += row[i];
            my_bias[plane] += a;
          }
          if (my_scale) {
#pragma omp simd reduction(+ : d)
            for (int64_t i = k; i < end; i++) d += row[i] * x[at + i];
            my_scale[plane] += d;
          }
        }
      }
    }
  }
}

template <template <int> class F, class... A> void by_act(int act, A... a) {
  switch (act) {
    case LINEAR: return F<LINEAR>::run(a...);
    case RELU: return F<RELU>::run(a...);
    case LRELU: return F<LRELU>::run(a...);
    case TANH: return F<TANH>::run(a...);
    case SIGMOID: return F<SIGMOID>::run(a...);
    case ELU: return F<ELU>::run(a...);
    case SELU: return F<SELU>::run(a...);
    case SOFTPLUS: return F<SOFTPLUS>::run(a...);
    default: return F<SWISH>::run(a...);
  }
}

template <int ACT> struct Forward {
  template <class T>
  static void run(int order, const T* factor, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* y,
                  Layout l, T alpha, T gain, T clamp, int threads) {
    if (order == 0) bias_act_run<ACT, 0>(factor, x, bias, noise, noise_n, scale, y, l, alpha, gain, clamp, threads);
    if (order == 1) bias_act_run<ACT, 1>(factor, x, bias, noise, noise_n, scale, y, l, alpha, gain, clamp, threads);
    if (order == 2) bias_act_run<ACT, 2>(factor, x, bias, noise, noise_n, scale, y, l, alpha, gain, clamp, threads);
  }
};

template <int ACT> struct Backward {
  template <class T>
  static void run(const T* g, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, T* dx, double* dbias,
                  double* dscale, T* dnoise, Layout l, T alpha, T gain, T clamp, int threads) {
    bias_act_backward_run<ACT>(g, x, bias, noise, noise_n, scale, dx, dbias, dscale, dnoise, l, alpha, gain, clamp, threads);
  }
};

// --------------------------------------------------------------------------------------------------------- upfirdn2d

// `inner` numbers lie side by side for each pixel: 1 for contiguous planes, c for channels-last.
struct Fir {
  int64_t planes, h, w, inner, oh, ow;
  int64_t fh, fw, up, down, left, top;
};

// y[i] is the sum over k of f[k] x[i + k * step], for i < count.
template <class T> inline void fir_line(const T* x, const T* f, int64_t taps, int64_t step, T* y, int64_t count) {
  if (taps == 4) {
    const T a = f[0], b = f[1], c = f[2], d = f[3];
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = a * x[i] + b * x[i + step] + c * x[i + 2 * step] + d * x[i + 3 * step];
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < count; i++) y[i] = f[0] * x[i];
  for (int64_t k = 1; k < taps; k++) {
    const T a = f[k];
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] += a * x[i + k * step];
  }
}

// Writes row `r` of the enlarged and padded picture to `line`. Returns false, and writes nothing, if the row is all zeros.
template <class T> bool enlarged_row(const T* plane, const Fir& o, int64_t r, T* line, int64_t width) {
  const int64_t from = r - o.top;
  if (from < 0 || from % o.up || from / o.up >= o.h) return false;
  const T* row = plane + from / o.up * o.w * o.inner;
  std::memset(line, 0, sizeof(T) * width * o.inner);
  if (o.up == 1) {
    const int64_t skip = std::max<int64_t>(-o.left, 0), to = std::max<int64_t>(o.left, 0);
    const int64_t count = std::min(o.w - skip, width - to);
    if (count > 0) std::memcpy(line + to * o.inner, row + skip * o.inner, sizeof(T) * count * o.inner);
    return true;
  }
  for (int64_t i = 0; i < o.w; i++) {
    const int64_t to = i * o.up + o.left;
    if (to >= 0 && to < width) std::memcpy(line + to * o.inner, row + i * o.inner, sizeof(T) * o.inner);
  }
  return true;
}

// fx (fw) and fy (fh) are the taps in the order of a correlation: tap k is multiplied with the k-th pixel under the filter.
template <class T> void upfirdn2d_separable(const T* x, const T* fx, const T* fy, T* y, const Fir& o, int threads) {
  const int64_t width = (o.ow - 1) * o.down + o.fw, rows_per_job = std::max<int64_t>(16, 4096 / std::max<int64_t>(o.ow, 1));
  const int64_t blocks = (o.oh + rows_per_job - 1) / rows_per_job, out = o.ow * o.inner;
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> line(width * o.inner), ring(o.fh * out);
    std::vector<int64_t> held(o.fh);
    std::vector<char> empty(o.fh);
    std::vector<const T*> rows(o.fh);
    std::vector<T> full(o.down > 1 ? width * o.inner : 0);
#pragma omp for schedule(static)
    for (int64_t job = 0; job < o.planes * blocks; job++) {
      const int64_t plane = job / blocks, first = job % blocks * rows_per_job, last = std::min(o.oh, first + rows_per_job);
      const T* in = x + plane * o.h * o.w * o.inner;
      std::fill(held.begin(), held.end(), -1);
      for (int64_t r = first; r < last; r++) {
        for (int64_t k = 0; k < o.fh; k++) {  // each row under the filter is filtered along x once, and kept in the ring
          const int64_t from = r * o.down + k, slot = from % o.fh;
          if (held[slot] == from) continue;
          held[slot] = from;
          empty[slot] = !enlarged_row(in, o, from, line.data(), width);
          if (empty[slot]) continue;
          T* to = ring.data() + slot * out;
          if (o.down == 1) {
            fir_line(line.data(), fx, o.fw, o.inner, to, out);
          } else {
            fir_line(line.data(), fx, o.fw, o.inner, full.data(), (width - o.fw + 1) * o.inner);
            for (int64_t i = 0; i < o.ow; i++)
              std::memcpy(to + i * o.inner, full.data() + i * o.down * o.inner, sizeof(T) * o.inner);
          }
        }
        T* to = y + (plane * o.oh + r) * out;
        bool any = false;
        for (int64_t k = 0; k < o.fh; k++) {
          const int64_t slot = (r * o.down + k) % o.fh;
          rows[k] = empty[slot] ? nullptr : ring.data() + slot * out;
          any = any || rows[k];
        }
        if (!any) {
          std::memset(to, 0, sizeof(T) * out);
          continue;
        }
        if (o.fh == 4 && rows[0] && rows[1] && rows[2] && rows[3]) {
          const T a = fy[0], b = fy[1], c = fy[2], d = fy[3];
          const T *p = rows[0], *q = rows[1], *s = rows[2], *t = rows[3];
#pragma omp simd
          for (int64_t i = 0; i < out; i++) to[i] = a * p[i] + b * q[i] + c * s[i] + d * t[i];
          continue;
        }
        bool started = false;
        for (int64_t k = 0; k < o.fh; k++) {
          if (!rows[k]) continue;
          const T a = fy[k];
          const T* p = rows[k];
          if (started) {
#pragma omp simd
            for (int64_t i = 0; i < out; i++) to[i] += a * p[i];
          } else {
#pragma omp simd
            for (int64_t i = 0; i < out; i++) to[i] = a * p[i];
          }
          started = true;
        }
      }
    }
  }
}

template <class T> void upfirdn2d_full(const T* x, const T* f, T* y, const Fir& o, int threads) {
  const int64_t width = (o.ow - 1) * o.down + o.fw, out = o.ow * o.inner;
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> line(width * o.inner), sum((width - o.fw + 1) * o.inner);
#pragma omp for schedule(static)
    for (int64_t job = 0; job < o.planes * o.oh; job++) {
      const int64_t plane = job / o.oh, r = job % o.oh;
      T* to = y + job * out;
      std::memset(to, 0, sizeof(T) * out);
      for (int64_t k = 0; k < o.fh; k++) {
        if (!enlarged_row(x + plane * o.h * o.w * o.inner, o, r * o.down + k, line.data(), width)) continue;
        fir_line(line.data(), f + k * o.fw, o.fw, o.inner, sum.data(), (width - o.fw + 1) * o.inner);
        for (int64_t i = 0; i < o.ow; i++)
          for (int64_t j = 0; j < o.inner; j++) to[i * o.inner + j] += sum[i * o.down * o.inner + j];
      }
    }
  }
}

// -------------------------------------------------------------------------------------------------------- pixel_norm

// y = r x with r = rsqrt(mean over c of x^2 + eps); or, with g, the gradient r g - r^3 x mean(g x).
template <class T> void pixel_norm_run(const T* x, const T* g, T* y, Layout l, T eps, int threads) {
  const int64_t chunk = 256, chunks = (l.p + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t job = 0; job < l.n * chunks; job++) {
    const int64_t n = job / chunks, first = job % chunks * chunk, count = std::min(chunk, l.p - first);
    const int64_t step_c = l.channels_last ? 1 : l.p, step_p = l.channels_last ? l.c : 1;
    const int64_t base = n * l.c * l.p + first * step_p;
    T squares[256] = {}, along[256] = {};
    for (int64_t c = 0; c < l.c; c++)
      for (int64_t i = 0; i < count; i++) {
        const T v = x[base + c * step_c + i * step_p];
        squares[i] += v * v;
        if (g) along[i] += v * g[base + c * step_c + i * step_p];
      }
    for (int64_t i = 0; i < count; i++) {
      squares[i] = T(1) / std::sqrt(squares[i] / l.c + eps);
      along[i] *= squares[i] * squares[i] / l.c;
    }
    for (int64_t c = 0; c < l.c; c++)
      for (int64_t i = 0; i < count; i++) {
        const int64_t at = base + c * step_c + i * step_p;
        y[at] = g ? squares[i] * (g[at] - x[at] * along[i]) : x[at] * squares[i];
      }
  }
}

// ---------------------------------------------------------------------------------------------------------- winograd
//
// 3x3 convolutions by Winograd's minimal filtering. A tile of pixels and the kernel are transformed along both axes. For each
// position in the tile a matrix product over the channels follows. Its results are transformed back to a tile of the result.
// Pictures are (n, h, w, c), and c and o are multiples of 16. Each of the three structures below describes one axis, for a kernel k.

// The size stays: y[i] is the sum of x[i + j - 1] k[j], by F(2, 3). 2x2 pixels take 16 products in place of 36.
struct Same {
  static constexpr int64_t IN = 4, STEP = 2, OFFSET = -1, OUT = 2;  // in pixels: input of a tile, distance of tiles, first input, result of a tile
  static constexpr int64_t VALUES = 4, PRODUCTS = 4, OF[] = {0, 1, 2, 3};  // OF[k] is the value that product k uses
  template <class V> static void values(const V* x, V* v) {
    v[0] = x[0] - x[2], v[1] = x[1] + x[2], v[2] = x[2] - x[1], v[3] = x[1] - x[3];
  }
  template <class V> static void kernel(const V* k, V* u) {
    u[0] = k[0], u[1] = (k[0] + k[1] + k[2]) * 0.5, u[2] = (k[0] - k[1] + k[2]) * 0.5, u[3] = k[2];
  }
  template <class V> static void kernel_adjoint(const V* u, V* k) {
    k[0] = u[0] + (u[1] + u[2]) * 0.5, k[1] = (u[1] - u[2]) * 0.5, k[2] = (u[1] + u[2]) * 0.5 + u[3];
  }
  template <class V> static void result(const V* m, V* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3]; }
  template <class V> static void result_adjoint(const V* y, V* m) {
    m[0] = y[0], m[1] = y[0] + y[1], m[2] = y[0] - y[1], m[3] = -y[1];
  }
};

// A transposed convolution of stride 2: y[2 i] = x[i] k[0] + x[i - 1] k[2], by F(2, 2), and y[2 i + 1] = x[i] k[1]. 4x4 pixels take 25
// products in place of 36.
struct Up {
  static constexpr int64_t IN = 3, STEP = 2, OFFSET = -1, OUT = 4;
  static constexpr int64_t VALUES = 4, PRODUCTS = 5, OF[] = {0, 1, 2, 1, 3};
  template <class V> static void values(const V* x, V* v) { v[0] = x[0] - x[1], v[1] = x[1], v[2] = x[2] - x[1], v[3] = x[2]; }
  template <class V> static void kernel(const V* k, V* u) {
    u[0] = k[2], u[1] = k[0] + k[2], u[2] = k[0], u[3] = u[4] = k[1];
  }
  template <class V> static void kernel_adjoint(const V* u, V* k) { k[0] = u[1] + u[2], k[1] = u[3] + u[4], k[2] = u[0] + u[1]; }
  template <class V> static void result(const V* m, V* y) { y[0] = m[0] + m[1], y[1] = m[3], y[2] = m[1] + m[2], y[3] = m[4]; }
  template <class V> static void result_adjoint(const V* y, V* m) {
    m[0] = y[0], m[1] = y[0] + y[2], m[2] = y[2], m[3] = y[1], m[4] = y[3];
  }
};

// Its adjoint, of stride 2: y[i] = x[2 i] k[0] + x[2 i + 1] k[1] + x[2 i + 2] k[2].
struct Down {
  static constexpr int64_t IN = 5, STEP = 4, OFFSET = 0, OUT = 2;
  static constexpr int64_t VALUES = 5, PRODUCTS = 5, OF[] = {0, 1, 2, 3, 4};
  template <class V> static void values(const V* x, V* v) {
    v[0] = x[0] - x[2], v[1] = x[2], v[2] = x[4] - x[2], v[3] = x[1], v[4] = x[3];
  }
  template <class V> static void kernel(const V* k, V* u) {
    u[0] = k[0], u[1] = k[0] + k[2], u[2] = k[2], u[3] = u[4] = k[1];
  }
  template <class V> static void result(const V* m, V* y) { y[0] = m[0] + m[1] + m[3], y[1] = m[1] + m[2] + m[4]; }
};

#if defined(__AVX512F__)
constexpr int64_t BYTES = 64, REGISTERS = 32;  // the size of a vector register, and the number of them
#elif defined(__AVX__)
constexpr int64_t BYTES = 32, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int64_t BYTES = 16, REGISTERS = 32;
#else
constexpr int64_t BYTES = 16, REGISTERS = 16;
#endif

template <class T> struct Vector {
  typedef T type __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using vec = typename Vector<T>::type;
template <class T> constexpr int64_t LANES = BYTES / sizeof(T);
template <class T> constexpr int64_t PANEL = 2 * LANES<T>;     // channels of the result that are computed together
constexpr int64_t ROWS = REGISTERS == 32 ? 12 : 6;             // tiles that are computed together: the sums fill most registers
constexpr int64_t TILES = 96;                                  // tiles that a thread transforms at a time: they stay in the cache

template <class T> inline vec<T> load(const T* p) { return *reinterpret_cast<const vec<T>*>(p); }
template <class T> inline void store(T* p, vec<T> v) { *reinterpret_cast<vec<T>*>(p) = v; }

// Transforms a kernel w (o, i, 3, 3) to u (products, panels, i, PANEL), several channels of the result at a time. For the adjoint, o
// and i change places.
template <class Way, class T> void winograd_kernel_run(const T* w, T* u, int64_t o, int64_t i, bool adjoint, int threads) {
  constexpr int64_t P = Way::PRODUCTS, STEP = LANES<double>;
  const bool turned = adjoint && std::is_same<Way, Same>::value;
  const int64_t out = adjoint ? i : o, in = adjoint ? o : i, panels = (out + PANEL<T> - 1) / PANEL<T>;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t a = 0; a < panels * PANEL<T>; a += STEP)
    for (int64_t b = 0; b < in; b++) {
      vec<double> taps[9] = {}, half[3][P], column[3], whole[P];
      for (int64_t l = 0; l < std::min(STEP, out - a); l++) {
        const T* from = w + (adjoint ? b * i + a + l : (a + l) * i + b) * 9;
        for (int64_t k = 0; k < 9; k++) taps[k][l] = from[turned ? 8 - k : k];
      }
      for (int64_t k = 0; k < 3; k++) Way::kernel(taps + 3 * k, half[k]);
      for (int64_t q = 0; q < P; q++) {
        for (int64_t k = 0; k < 3; k++) column[k] = half[k][q];
        Way::kernel(column, whole);
        for (int64_t p = 0; p < P; p++) {
          T* to = u + (((P * p + q) * panels + a / PANEL<T>) * in + b) * PANEL<T> + a % PANEL<T>;
          for (int64_t l = 0; l < STEP; l++) to[l] = T(whole[p][l]);
        }
      }
    }
}

// Multiplies ROWS rows of v (., c) with a panel of u (c, PANEL).
template <class T> inline void winograd_product(const T* v, const T* u, T* m, int64_t c) {
  vec<T> low[ROWS] = {}, high[ROWS] = {};
  for (int64_t k = 0; k < c; k++) {
    const vec<T> a = load(u + k * PANEL<T>), b = load(u + k * PANEL<T> + LANES<T>);
#pragma GCC unroll 12
    for (int64_t r = 0; r < ROWS; r++) {
      const T x = v[r * c + k];
      low[r] += x * a;
      high[r] += x * b;
    }
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < ROWS; r++) {
    store(m + r * PANEL<T>, low[r]);
    store(m + r * PANEL<T> + LANES<T>, high[r]);
  }
}

// Memory for `count` numbers, for the use of one thread. It is kept for the thread's next call: asking the system for it anew would
// take a tenth of the time of a small convolution.
template <class T, int WHICH> T* winograd_room(int64_t count) {
  static thread_local std::vector<T> room;
  if (int64_t(room.size()) < count) room.resize(count);
  return room.data();
}

// The tile of x (n, h, w, c) whose first pixel is (top, left), as pointers to its SIDE x SIDE pixels; null for those outside.
template <int64_t SIDE, class T>
inline void winograd_tile(const T* x, const T** at, int64_t plane, int64_t top, int64_t left, int64_t h, int64_t w, int64_t c) {
  for (int64_t k = 0; k < SIDE * SIDE; k++) {
    const int64_t row = top + k / SIDE, column = left + k % SIDE;
    at[k] = row < 0 || row >= h || column < 0 || column >= w ? nullptr : x + ((plane * h + row) * w + column) * c;
  }
}

// Convolves x (n, h, w, c) with a transformed kernel u to y (n, oh, ow, o).
template <class Way, class T>
void winograd_run(const T* x, const T* u, T* y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t o,
                  int threads) {
  constexpr int64_t IN = Way::IN, OUT = Way::OUT, VALUES = Way::VALUES, P = Way::PRODUCTS;
  const int64_t down = (oh + OUT - 1) / OUT, across = (ow + OUT - 1) / OUT, tiles = n * down * across;
  const int64_t panels = (o + PANEL<T> - 1) / PANEL<T>;
  // Jobs have about TILES tiles, and every thread gets the same number of jobs.
  const int64_t groups = (tiles + ROWS - 1) / ROWS, rounds = (tiles + threads * TILES - 1) / (threads * TILES);
  const int64_t jobs = std::min(groups, rounds * threads), each = (groups + jobs - 1) / jobs * ROWS;
  // A plane has the values or products of one place in the tiles. Planes are one register longer than they need be: at a distance
  // of whole pages all planes would compete for the same few places of the processor's first cache.
  const int64_t v_plane = each * c + LANES<T>, m_plane = each * PANEL<T> + LANES<T>;
#pragma omp parallel num_threads(threads)
  {
    T *v = winograd_room<T, 0>(VALUES * VALUES * v_plane), *m = winograd_room<T, 1>(P * P * m_plane);
#pragma omp for schedule(static)
    for (int64_t job = 0; job < jobs; job++) {
      const int64_t first = groups * job / jobs * ROWS, count = std::min(tiles, groups * (job + 1) / jobs * ROWS) - first;
      for (int64_t tile = 0; tile < count; tile++) {
        const int64_t plane = (first + tile) / (down * across);
        const int64_t top = (first + tile) / across % down * Way::STEP + Way::OFFSET;
        const int64_t left = (first + tile) % across * Way::STEP + Way::OFFSET;
        const T* at[IN * IN];
        winograd_tile<IN>(x, at, plane, top, left, h, w, c);
        for (int64_t from = 0; from < c; from += LANES<T>) {
          vec<T> half[IN][VALUES], line[IN], whole[VALUES];
#pragma GCC unroll 5
          for (int64_t k = 0; k < IN; k++) {
#pragma GCC unroll 5
            for (int64_t j = 0; j < IN; j++) line[j] = at[k * IN + j] ? load(at[k * IN + j] + from) : vec<T>{};
            Way::values(line, half[k]);
          }
#pragma GCC unroll 5
          for (int64_t q = 0; q < VALUES; q++) {
#pragma GCC unroll 5
            for (int64_t k = 0; k < IN; k++) line[k] = half[k][q];
            Way::values(line, whole);
#pragma GCC unroll 5
            for (int64_t p = 0; p < VALUES; p++) store(v + (VALUES * p + q) * v_plane + tile * c + from, whole[p]);
          }
        }
      }
      for (int64_t panel = 0; panel < panels; panel++) {
        for (int64_t k = 0; k < P * P; k++)
          for (int64_t r = 0; r < count; r += ROWS)
            winograd_product(v + (VALUES * Way::OF[k / P] + Way::OF[k % P]) * v_plane + r * c,
                             u + (k * panels + panel) * c * PANEL<T>, m + k * m_plane + r * PANEL<T>, c);
        for (int64_t tile = 0; tile < count; tile++) {
          const int64_t plane = (first + tile) / (down * across);
          const int64_t row = (first + tile) / across % down * OUT, column = (first + tile) % across * OUT;
          for (int64_t l = 0; l < PANEL<T> && panel * PANEL<T> + l < o; l += LANES<T>) {
            vec<T> half[OUT][P], line[P], whole[OUT];
#pragma GCC unroll 5
            for (int64_t q = 0; q < P; q++) {
#pragma GCC unroll 5
              for (int64_t p = 0; p < P; p++) line[p] = load(m + (P * p + q) * m_plane + tile * PANEL<T> + l);
              Way::result(line, whole);
#pragma GCC unroll 5
              for (int64_t j = 0; j < OUT; j++) half[j][q] = whole[j];
            }
#pragma GCC unroll 5
            for (int64_t j = 0; j < OUT; j++) {
              if (row + j >= oh) break;
              Way::result(half[j], whole);
              T* to = y + ((plane * oh + row + j) * ow + column) * o + panel * PANEL<T> + l;
#pragma GCC unroll 5
              for (int64_t i = 0; i < OUT; i++)
                if (column + i < ow) store(to + i * o, whole[i]);
            }
          }
        }
      }
    }
  }
}

constexpr int64_t SUMMED = 64;  // tiles whose products are added in registers, before they are added to the sums in memory
template <class T> constexpr int64_t LINES = std::min<int64_t>(LANES<T>, REGISTERS == 32 ? 8 : 4);  // rows of a sum in registers

// Adds the products of v (tiles, LANES), of which LINES columns are used, and m (tiles, PANEL) over the tiles to sums (LINES, stride).
template <class T> inline void winograd_outer(const T* v, const T* m, T* sums, int64_t stride, int64_t tiles) {
  vec<T> low[LINES<T>] = {}, high[LINES<T>] = {};
  for (int64_t t = 0; t < tiles; t++) {
    const vec<T> a = load(m + t * PANEL<T>), b = load(m + t * PANEL<T> + LANES<T>);
#pragma GCC unroll 8
    for (int64_t r = 0; r < LINES<T>; r++) {
      const T x = v[t * LANES<T> + r];
      low[r] += x * a;
      high[r] += x * b;
    }
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < LINES<T>; r++) {
    T* to = sums + r * stride;
    store(to, load(to) + low[r]);
    store(to + LANES<T>, load(to + LANES<T>) + high[r]);
  }
}

// The gradient dw (o, i, 3, 3) of a kernel, for an input x (n, h, w, i) and the gradient g (n, oh, ow, o) of the result.
template <class Way, class T>
void winograd_weight_run(const T* x, const T* g, T* dw, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t o,
                         int threads) {
  constexpr int64_t IN = Way::IN, OUT = Way::OUT, VALUES = Way::VALUES, P = Way::PRODUCTS;
  const int64_t down = (oh + OUT - 1) / OUT, across = (ow + OUT - 1) / OUT, tiles = n * down * across;
  const int64_t panels = (o + PANEL<T> - 1) / PANEL<T>, wide = panels * PANEL<T>, jobs = (tiles + SUMMED - 1) / SUMMED;
  const int64_t v_plane = SUMMED * c + LANES<T>, m_plane = SUMMED * wide + LANES<T>;  // longer than need be: see winograd_run
  std::vector<T> sums(threads * P * P * c * wide);
#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    T* mine = sums.data() + omp_get_thread_num() * P * P * c * wide;
#else
    T* mine = sums.data();
#endif
    T *v = winograd_room<T, 0>(VALUES * VALUES * v_plane), *m = winograd_room<T, 1>(P * P * m_plane);
#pragma omp for schedule(static)
    for (int64_t job = 0; job < jobs; job++) {
      const int64_t first = job * SUMMED, count = std::min(tiles - first, SUMMED);
      for (int64_t tile = 0; tile < count; tile++) {
        const int64_t plane = (first + tile) / (down * across);
        const int64_t row = (first + tile) / across % down, column = (first + tile) % across;
        const T *at[IN * IN], *slopes[OUT * OUT];
        winograd_tile<IN>(x, at, plane, row * Way::STEP + Way::OFFSET, column * Way::STEP + Way::OFFSET, h, w, c);
        winograd_tile<OUT>(g, slopes, plane, row * OUT, column * OUT, oh, ow, o);
        for (int64_t from = 0; from < c; from += LANES<T>) {
          vec<T> half[IN][VALUES], line[IN], whole[VALUES];
#pragma GCC unroll 5
          for (int64_t k = 0; k < IN; k++) {
#pragma GCC unroll 5
            for (int64_t j = 0; j < IN; j++) line[j] = at[k * IN + j] ? load(at[k * IN + j] + from) : vec<T>{};
            Way::values(line, half[k]);
          }
#pragma GCC unroll 5
          for (int64_t q = 0; q < VALUES; q++) {
#pragma GCC unroll 5
            for (int64_t k = 0; k < IN; k++) line[k] = half[k][q];
            Way::values(line, whole);
#pragma GCC unroll 5
            for (int64_t p = 0; p < VALUES; p++)
              store(v + (VALUES * p + q) * v_plane + from * SUMMED + tile * LANES<T>, whole[p]);
          }
        }
        for (int64_t from = 0; from < o; from += LANES<T>) {
          vec<T> half[OUT][P], line[OUT], whole[P];
#pragma GCC unroll 5
          for (int64_t k = 0; k < OUT; k++) {
#pragma GCC unroll 5
            for (int64_t j = 0; j < OUT; j++) line[j] = slopes[k * OUT + j] ? load(slopes[k * OUT + j] + from) : vec<T>{};
            Way::result_adjoint(line, half[k]);
          }
          T* to = m + from / PANEL<T> * SUMMED * PANEL<T> + tile * PANEL<T> + from % PANEL<T>;
#pragma GCC unroll 5
          for (int64_t q = 0; q < P; q++) {
#pragma GCC unroll 5
            for (int64_t k = 0; k < OUT; k++) line[k] = half[k][q];
            Way::result_adjoint(line, whole);
#pragma GCC unroll 5
            for (int64_t p = 0; p < P; p++) store(to + (P * p + q) * m_plane, whole[p]);
          }
        }
      }
      for (int64_t k = 0; k < P * P; k++)
        for (int64_t panel = 0; panel < panels; panel++)
          for (int64_t r = 0; r < c; r += LINES<T>)
            winograd_outer(v + (VALUES * Way::OF[k / P] + Way::OF[k % P]) * v_plane + r / LANES<T> * LANES<T> * SUMMED + r % LANES<T>,
                           m + k * m_plane + panel * SUMMED * PANEL<T>, mine + (k * c + r) * wide + panel * PANEL<T>, wide, count);
    }
#pragma omp for schedule(static)
    for (int64_t b = 0; b < c; b++)
      for (int64_t a = 0; a < o; a += LANES<T>) {
        vec<T> half[3][P], column[P], whole[3];
        for (int64_t q = 0; q < P; q++) {
          for (int64_t p = 0; p < P; p++) {
            column[p] = vec<T>{};
            for (int64_t t = 0; t < threads; t++) column[p] += load(sums.data() + ((t * P * P + P * p + q) * c + b) * wide + a);
          }
          Way::kernel_adjoint(column, whole);
          for (int64_t k = 0; k < 3; k++) half[k][q] = whole[k];
        }
        for (int64_t k = 0; k < 3; k++) {
          Way::kernel_adjoint(half[k], whole);
          for (int64_t j = 0; j < 3; j++)
            for (int64_t l = 0; l < LANES<T>; l++) dw[((a + l) * c + b) * 9 + 3 * k + j] = whole[j][l];
        }
      }
  }
}

// A checksum of `count` 32-bit words that depends on their order.
uint64_t checksum_run(const uint32_t* x, int64_t count, int threads) {
  const int64_t block = 1 << 16, blocks = (count + block - 1) / block;
  uint64_t total = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : total)
  for (int64_t job = 0; job < blocks; job++) {
    uint32_t lanes[64];
    for (int k = 0; k < 64; k++) lanes[k] = 2166136261u + k;
    const int64_t first = job * block, last = std::min(count, first + block);
    int64_t i = first;
    for (; i + 64 <= last; i += 64) {
#pragma omp simd
      for (int k = 0; k < 64; k++) lanes[k] = (lanes[k] ^ x[i + k]) * 16777619u;
    }
    for (int k = 0; i < last; i++, k++) lanes[k] = (lanes[k] ^ x[i]) * 16777619u;
    uint64_t sum = job + 1;
    for (int k = 0; k < 64; k++) sum = (sum ^ lanes[k]) * 1099511628211ull;
    total += sum;
  }
  return total;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

#define FUNCTIONS(T, NAME)                                                                                                     \
  EXPORT void bias_act_##NAME(int64_t order, const T* factor, const T* x, const T* bias, const T* noise, int64_t noise_n,          \
                              const T* scale, T* y, int64_t n, int64_t c, int64_t p, int64_t channels_last, int64_t act, double alpha, \
                              double gain, double clamp, int threads) {                                                        \
    by_act<Forward>(int(act), int(order), factor, x, bias, noise, noise_n, scale, y, Layout{n, c, p, channels_last != 0}, T(alpha),      \
                    T(gain), T(clamp), threads);                                                                               \
  }                                                                                                                            \
  EXPORT void bias_act_backward_##NAME(const T* g, const T* x, const T* bias, const T* noise, int64_t noise_n, const T* scale, \
                                       T* dx, double* dbias, double* dscale, T* dnoise, int64_t parts, int64_t n, int64_t c, int64_t p,       \
                                       int64_t channels_last, int64_t act, double alpha, double gain, double clamp, int threads) {     \
    by_act<Backward>(int(act), g, x, bias, noise, noise_n, scale, dx, dbias, dscale, dnoise,                                        \
                     Layout{n, c, p, channels_last != 0}, T(alpha), T(gain), T(clamp), int(parts < threads ? parts : threads));   \
  }                                                                                                                            \
  EXPORT void upfirdn2d_separable_##NAME(const T* x, const T* fx, const T* fy, T* y, int64_t planes, int64_t h, int64_t w,     \
                                         int64_t inner, int64_t oh, int64_t ow, int64_t fh, int64_t fw, int64_t up,            \
                                         int64_t down, int64_t left, int64_t top, int threads) {                               \
    upfirdn2d_separable(x, fx, fy, y, Fir{planes, h, w, inner, oh, ow, fh, fw, up, down, left, top}, threads);                 \
  }                                                                                                                            \
  EXPORT void upfirdn2d_full_##NAME(const T* x, const T* f, T* y, int64_t planes, int64_t h, int64_t w, int64_t inner,         \
                                    int64_t oh, int64_t ow, int64_t fh, int64_t fw, int64_t up, int64_t down, int64_t left,    \
                                    int64_t top, int threads) {                                                                \
    upfirdn2d_full(x, f, y, Fir{planes, h, w, inner, oh, ow, fh, fw, up, down, left, top}, threads);                           \
  }                                                                                                                            \
  EXPORT void pixel_norm_##NAME(const T* x, const T* g, T* y, int64_t n, int64_t c, int64_t p, int64_t channels_last, double eps,  \
                                int threads) {                                                                                 \
    pixel_norm_run(x, g, y, Layout{n, c, p, channels_last != 0}, T(eps), threads);                                             \
  }                                                                                                                            \
  EXPORT void winograd_kernel_##NAME(int64_t way, const T* w, T* u, int64_t o, int64_t i, int64_t adjoint, int threads) {      \
    (way == 0 ? winograd_kernel_run<Same, T> : way == 1 ? winograd_kernel_run<Up, T> : winograd_kernel_run<Down, T>)(          \
        w, u, o, i, adjoint != 0, threads);                                                                                    \
  }                                                                                                                            \
  EXPORT void winograd_##NAME(int64_t way, const T* x, const T* u, T* y, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, \
                              int64_t ow, int64_t o, int threads) {                                                            \
    (way == 0 ? winograd_run<Same, T> : way == 1 ? winograd_run<Up, T> : winograd_run<Down, T>)(x, u, y, n, h, w, c, oh, ow,   \
                                                                                                o, threads);                   \
  }                                                                                                                            \
  EXPORT void winograd_weight_##NAME(int64_t way, const T* x, const T* g, T* dw, int64_t n, int64_t h, int64_t w, int64_t c,   \
                                     int64_t oh, int64_t ow, int64_t o, int threads) {                                         \
    (way == 0 ? winograd_weight_run<Same, T> : winograd_weight_run<Up, T>)(x, g, dw, n, h, w, c, oh, ow, o, threads);          \
  }

FUNCTIONS(float, f32)
FUNCTIONS(double, f64)

EXPORT void checksum_f32(const float* x, int64_t count, uint64_t* result, int threads) {
  *result = checksum_run(reinterpret_cast<const uint32_t*>(x), count, threads);
}
EXPORT void checksum_f64(const double* x, int64_t count, uint64_t* result, int threads) {
  *result = checksum_run(reinterpret_cast<const uint32_t*>(x), 2 * count, threads);
}
