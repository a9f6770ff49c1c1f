#include "pipeline/training_text.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <numeric>

#include "base/hash.h"
#include "base/rng.h"
#include "data/chat.h"
#include "data/text.h"
#include "data/tokenizer.h"
#include "model/torch/device.h"
#include "model/torch/writer.h"

namespace whit {
namespace {

using Windows = std::vector<std::vector<int32_t>>;

constexpr uint64_t kMostTokens = uint64_t{16} << 20;  // different ones, unless more are asked for

// Windows that are written side by side, and one entry of the cache.
uint64_t piece_windows() { return learning_device() == "cuda" ? 4096 : 64; }

// How self-written windows begin: 15 % with the header of a user's message (where the chat template can be evaluated), a share
// with 4 to 24 tokens of a text (45 % of a file that stands beside self, else one novel's words in eight), the others with
// what ends a document and one token drawn from the whole vocabulary: what the model writes from there shows all that it
// knows, and not one author's world.
struct Starts {
  std::vector<int32_t> text, header;
  double share = 0;  // of windows that begin with the text
  int32_t front = -1;
  uint64_t vocabulary = 0;

  // At most half of the `length` of a window.
  Windows draw(size_t count, uint64_t length, Rng& rng) const {
    Windows starts;
    for (size_t i = 0; i < count; ++i) {
      const double kind = rng.uniform();
      std::vector<int32_t> start;
      if (!header.empty() && kind < 0.15) {
        start = header;
      } else if (text.size() > 24 && kind < 0.15 + share) {
        const size_t words = 4 + rng.below(21), at = rng.below(text.size() - words);
        start.assign(text.begin() + static_cast<ptrdiff_t>(at), text.begin() + static_cast<ptrdiff_t>(at + words));
      } else {
        if (front >= 0) start.push_back(front);
        start.push_back(static_cast<int32_t>(rng.below(vocabulary)));
      }
      start.resize(std::min<size_t>(start.size(), std::max<uint64_t>(1, length / 2)));
      starts.push_back(std::move(start));
    }
    return starts;
  }
};

// Ids are stored as floats: exact below 2^24.
Matrix to_matrix(const std::vector<int32_t>& ids, size_t length) {
  Matrix matrix(ids.size() / length, length);
  std::copy(ids.begin(), ids.end(), matrix.data.begin());
  return matrix;
}

Starts starts_of(const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> file, Progress& progress) {
  Starts starts;
  starts.vocabulary = model.spec.vocabulary;
  starts.share = file.empty() ? 0.125 : 0.45;
  if (file.empty())
    starts.text = tokenizer.encode(default_calibration_text(), false, false);
  else
    starts.text.assign(file.begin(), file.end());
  starts.front = tokenizer.bos();
  if (const auto document = tokenizer.encode("<|endoftext|>", false, true); starts.front < 0 && document.size() == 1)
    starts.front = document[0];
  try {
    if (const std::string jinja = tokenizer.chat_template(); !jinja.empty()) {
      const std::string mark = "A user's words.";
      ChatOptions options;
      options.special_tokens = tokenizer.special_tokens();
      const std::string shown = ChatTemplate(jinja).render(Json::array({{{"role", "user"}, {"content", mark}}}), options);
      if (const size_t end = shown.find(mark); end != std::string::npos)
        starts.header = tokenizer.encode(shown.substr(0, end), false, true);
    }
  } catch (const Error& error) {
    progress.note("no window begins as a user's message: " + error.message() + " (" + error.where() + ": " +
                  error.found() + ")");
  }
  return starts;
}

struct Written {
  Windows windows;
  double seconds_per_token = 0;
  bool now = false;  // not all was in the cache
};

// Windows of `length` ids that the model wrote, some from words of `file` (empty: of the novels).
Written written_by(const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> file, uint64_t windows,
                   uint64_t length, uint64_t seed, const Cache& cache, Progress& progress) {
  if (model.spec.vocabulary >= (uint64_t{1} << 24))
    throw Error(ErrorKind::usage, "the vocabulary is too large for self-written text", "--data self");
  // Pieces of a fixed size, each with a seed and a cache entry of its own: a longer text begins with a shorter one.
  const uint64_t piece = piece_windows();
  const uint64_t pieces = (windows + piece - 1) / piece;
  const auto key = [&](uint64_t p) {
    Hasher hasher;
    hasher.add("self-written text 5");
    hasher.add(std::as_bytes(file));
    hasher.add(model.content_hash);
    hasher.add(learning_device());
    for (const uint64_t number : {length, seed, piece, p}) hasher.add(number);
    return hasher.hex() + "-text";
  };
  std::vector<uint64_t> missing;
  for (uint64_t p = 0; p < pieces; ++p)
    if (!std::filesystem::exists(cache.path(key(p)))) missing.push_back(p);
  if (!missing.empty()) {
    using Clock = std::chrono::steady_clock;
    TextWriter writer(model);
    const Starts starts = starts_of(model, tokenizer, file, progress);
    progress.begin("writing text", static_cast<double>(missing.size() * piece * length));
    for (const uint64_t p : missing) {
      const auto start = Clock::now();
      Rng rng(seed * 1000003 + p);
      const Windows begun = starts.draw(piece, length, rng);
      std::vector<int32_t> ids;
      const size_t at_once = std::min<size_t>(writer.at_once(length), piece);
      for (size_t first = 0; first < piece; first += at_once) {
        const size_t count = std::min(at_once, piece - first);
        const auto part = writer.write(std::span(begun).subspan(first, count), length, rng.next(), [&] {
          progress.advance(static_cast<double>(count));
          progress.check_interrupt();
        });
        ids.insert(ids.end(), part.begin(), part.end());
      }
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(ids.size());
      cache.store(key(p), {{{"seconds_per_token", seconds}}, {{"ids", to_matrix(ids, length)}}});
    }
    progress.end();
  }
  Written written;
  written.now = !missing.empty();
  for (uint64_t p = 0; p < pieces; ++p) {
    const auto entry = cache.load(key(p));
    if (!entry || entry->arrays.size() != 1 || entry->arrays[0].second.cols != length)
      throw Error(ErrorKind::integrity, "self-written text is not what was stored", cache.path(key(p)).string(), {}, "delete it");
    const Matrix& stored = entry->arrays[0].second;  // ids
    for (size_t row = 0; row < stored.rows && written.windows.size() < windows; ++row)
      written.windows.emplace_back(stored.row(row), stored.row(row) + length);
    written.seconds_per_token += entry->json.value("seconds_per_token", 0.0) / static_cast<double>(pieces);
  }
  return written;
}

}  // namespace

std::shared_ptr<const Tokenizer> tokenizer_of(const Model& model) {
  return model.tokenizer_files.empty() ? make_tokenizer(model.metadata) : make_tokenizer(model.tokenizer_files);
}

bool self_written(const std::string& data) { return data == "self" || data.starts_with("self+"); }

std::string nameless(const std::string& data) {
  if (data == "self" || data == "novels" || data == "self+novels") return data;
  return data.starts_with("self+") ? "self+text" : "text";
}

uint64_t tokens_in_time(const TuneOptions& options, uint64_t held_out_windows, double seconds, double writing_seconds,
                        double training_seconds) {
  const auto length = static_cast<uint64_t>(options.context);
  const bool self = self_written(options.data), mixed = self && options.data != "self";
  const double each = self ? writing_seconds / (mixed ? 2 : 1) + 2 * training_seconds : training_seconds;
  const double tokens = std::clamp(seconds / each, static_cast<double>(length), static_cast<double>(kMostTokens));
  uint64_t windows = static_cast<uint64_t>(tokens) / length;
  if (self) {
    const uint64_t piece = piece_windows() * (mixed ? 2 : 1);
    windows = std::max<uint64_t>(1, (windows + held_out_windows + piece / 2) / piece) * piece - std::min(held_out_windows, piece - 1);
  }
  return windows * length;
}

TrainingText training_text(const Model& writer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows,
                           const Cache& cache, Progress& progress) {
  const auto length = static_cast<uint64_t>(options.context);
  if (writer.spec.context && length > writer.spec.context)
    throw Error(ErrorKind::usage, "training windows are longer than the model's context", "--context",
                std::to_string(length), std::to_string(writer.spec.context) + " at most");
  const uint64_t different =
      options.text_tokens > 0 ? static_cast<uint64_t>(options.text_tokens) : std::min(tokens, kMostTokens);
  const uint64_t windows = std::max<uint64_t>(1, different / length) + held_out_windows;
  const bool self = self_written(options.data);
  const std::string file = options.data == "self" ? "" : self ? options.data.substr(5) : options.data;
  const auto seed = static_cast<uint64_t>(options.seed);
  const auto tokenizer = tokenizer_of(writer);
  std::vector<int32_t> ids;
  if (!file.empty()) ids = tokenizer->encode(named_text(file, "tune: data"), false, false);
  Windows text;
  TrainingText result;
  if (self) {
    Written written =
        written_by(writer, *tokenizer, ids, file.empty() ? windows : (windows + 1) / 2, length, seed, cache, progress);
    text = std::move(written.windows);
    result.writing_seconds = written.seconds_per_token;
    result.written_now = written.now;
  }
  if (!file.empty()) {
    const uint64_t wanted = windows - text.size(), there = ids.size() / length;
    if (there == 0)
      throw Error(ErrorKind::input, "the training text is shorter than one window", file,
                  std::to_string(ids.size()) + " tokens", "a longer text, or a smaller --context");
    CalibrationWindows drawn = calibration_windows(ids, tokenizer->bos(), std::min(wanted, there) * length, length, seed);
    for (auto& window : drawn.windows) text.push_back(std::move(window));
  }
  if (text.size() < 2)
    throw Error(ErrorKind::input, "the training text leaves nothing to train on", options.data,
                std::to_string(text.size()) + " windows, one of them held out", "a longer text, or a smaller --context");
  // Of a short text an eighth.
  const uint64_t held_out = std::min<uint64_t>(held_out_windows, std::max<uint64_t>(1, text.size() / 8));
  // In an order that mixes the sources; what is held out is the end of it.
  Rng rng(seed ^ 0x7e57);
  for (size_t i = text.size(); i > 1; --i) std::swap(text[i - 1], text[rng.below(i)]);
  Hasher hasher;
  for (const auto& window : text) hasher.add(std::as_bytes(std::span(window)));
  result.hash = hasher.hex();
  result.held_out.assign(text.end() - static_cast<ptrdiff_t>(held_out), text.end());
  text.resize(text.size() - held_out);
  result.train = std::move(text);
  return result;
}

}  // namespace whit
