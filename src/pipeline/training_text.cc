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
// A text of so few, as calibration looks at, is one small piece: nobody waits for what is not read.
constexpr uint64_t kFewWindows = 16;

// How self-written windows begin: 15 % with the header of a user's message (where the chat template can be evaluated),
// a share with 4 to 24 tokens of a text (45 % of a file that stands beside self, else one novel's words in eight), the
// others with what ends a document and one token drawn from the whole vocabulary: what the model writes from there
// shows all that it knows, and not one author's world.
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
      const std::string shown =
          ChatTemplate(jinja).render(Json::array({{{"role", "user"}, {"content", mark}}}), options);
      if (const size_t end = shown.find(mark); end != std::string::npos)
        starts.header = tokenizer.encode(shown.substr(0, end), false, true);
    }
  } catch (const Error& error) {
    progress.note("no window begins as a user's message: " + error.message() + " (" + error.where() + ": " +
                  error.found() + ")");
  }
  return starts;
}

// Pieces of a fixed size, each with a seed and a cache entry of its own: a longer text begins with a shorter one.
struct Pieces {
  Pieces(const Model& model, std::span<const int32_t> file, uint64_t windows, const TuneOptions& options,
         const Cache& cache)
      : length(static_cast<uint64_t>(options.context)),
        size(windows <= kFewWindows ? kFewWindows : piece_windows()),
        count((windows + size - 1) / size) {
    for (uint64_t p = 0; p < count; ++p) {
      Hasher hasher;
      hasher.add("self-written text 5");
      hasher.add(std::as_bytes(file));
      hasher.add(model.content_hash);
      hasher.add(learning_device());
      for (const uint64_t number : {length, static_cast<uint64_t>(options.seed), size, p}) hasher.add(number);
      keys.push_back(hasher.hex() + "-text");
      if (!std::filesystem::exists(cache.path(keys.back()))) missing.push_back(p);
    }
  }
  uint64_t missing_tokens() const { return missing.size() * size * length; }

  uint64_t length, size, count;  // tokens of a window, windows of a piece, pieces
  std::vector<std::string> keys;
  std::vector<uint64_t> missing;
};

void write_missing(const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> file, const Pieces& pieces,
                   uint64_t seed, const Cache& cache, Progress& progress) {
  if (pieces.missing.empty()) return;
  const uint64_t piece = pieces.size, length = pieces.length;
  TextWriter writer(model);
  const Starts starts = starts_of(model, tokenizer, file, progress);
  progress.begin("writing text", static_cast<double>(pieces.missing_tokens()));
  for (const uint64_t p : pieces.missing) {
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
    cache.store(pieces.keys[p], {Json::object(), {{"ids", to_matrix(ids, length)}}});
  }
  progress.end();
}

// So many windows of what stands in the cache now.
Windows read_pieces(const Pieces& pieces, uint64_t windows, const Cache& cache) {
  Windows result;
  for (const std::string& key : pieces.keys) {
    const auto entry = cache.load(key);
    if (!entry || entry->arrays.size() != 1 || entry->arrays[0].second.cols != pieces.length)
      throw Error(ErrorKind::integrity, "self-written text is not what was stored", cache.path(key).string(), {},
                  "delete it");
    const Matrix& stored = entry->arrays[0].second;  // ids
    for (size_t row = 0; row < stored.rows && result.size() < windows; ++row)
      result.emplace_back(stored.row(row), stored.row(row) + pieces.length);
  }
  return result;
}

// What a text is made of: windows that the model writes, and the ids of a file.
struct Sources {
  uint64_t windows = 0, written = 0;  // in all, and of these the model's own
  std::vector<int32_t> file;          // whose words own windows may begin with; their other half, where there are both
  bool self = false;
};

Sources sources_of(const Tokenizer& tokenizer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows) {
  Sources sources;
  const auto length = static_cast<uint64_t>(options.context);
  const uint64_t different =
      options.text_tokens > 0 ? static_cast<uint64_t>(options.text_tokens) : std::min(tokens, kMostTokens);
  sources.windows = std::max<uint64_t>(1, different / length) + held_out_windows;
  sources.self = self_written(options.data);
  const std::string file = options.data == "self" ? "" : sources.self ? options.data.substr(5) : options.data;
  if (sources.self) sources.written = file.empty() ? sources.windows : (sources.windows + 1) / 2;
  if (!file.empty()) sources.file = tokenizer.encode(named_text(file, "tune: data"), false, false);
  return sources;
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

uint64_t text_tokens_for(const TuneOptions& options, uint64_t held_out_windows, uint64_t tokens) {
  const auto length = static_cast<uint64_t>(options.context);
  const bool self = self_written(options.data), mixed = self && options.data != "self";
  uint64_t windows = std::clamp(self ? tokens / 2 : tokens, length, kMostTokens) / length;
  if (self) {
    const uint64_t piece = piece_windows() * (mixed ? 2 : 1);
    windows = std::max<uint64_t>(1, (windows + held_out_windows + piece / 2) / piece) * piece -
              std::min(held_out_windows, piece - 1);
  }
  return windows * length;
}

uint64_t most_text_tokens(const TuneOptions& options) {
  const int64_t given = options.text_tokens > 0 ? options.text_tokens : options.tokens;
  return given > 0
             ? std::min(static_cast<uint64_t>(given), std::max(kMostTokens, static_cast<uint64_t>(options.text_tokens)))
             : kMostTokens;
}

uint64_t tokens_to_write(const Model& writer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows,
                         const Cache& cache) {
  if (!self_written(options.data)) return 0;
  const Sources sources = sources_of(*tokenizer_of(writer), options, tokens, held_out_windows);
  return Pieces(writer, sources.file, sources.written, options, cache).missing_tokens();
}

double seconds_per_written_token(const Model& model, const TuneOptions& options) {
  constexpr size_t kPositions = 16;
  const auto length = static_cast<uint64_t>(options.context);
  TextWriter writer(model);
  const size_t at_once = std::min<size_t>(writer.at_once(length), piece_windows());
  const Windows starts(at_once, {0});
  const auto start = std::chrono::steady_clock::now();
  writer.write(starts, std::min<size_t>(kPositions, length), 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds / static_cast<double>(at_once * std::min<size_t>(kPositions, length));
}

TrainingText training_text(const Model& writer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows,
                           const Cache& cache, Progress& progress) {
  const auto length = static_cast<uint64_t>(options.context);
  if (writer.spec.context && length > writer.spec.longest_context())
    throw Error(ErrorKind::usage, "training windows are longer than the model's context", "--context",
                std::to_string(length), std::to_string(writer.spec.longest_context()) + " at most");
  const auto seed = static_cast<uint64_t>(options.seed);
  const auto tokenizer = tokenizer_of(writer);
  const Sources sources = sources_of(*tokenizer, options, tokens, held_out_windows);
  Windows text;
  TrainingText result;
  if (sources.self) {
    if (writer.spec.vocabulary >= (uint64_t{1} << 24))
      throw Error(ErrorKind::usage, "the vocabulary is too large for self-written text", "--data self");
    const Pieces pieces(writer, sources.file, sources.written, options, cache);
    write_missing(writer, *tokenizer, sources.file, pieces, seed, cache, progress);
    text = read_pieces(pieces, sources.written, cache);
    result.written_now = !pieces.missing.empty();
  }
  if (!sources.file.empty() || !sources.self) {
    const uint64_t wanted = sources.windows - text.size(), there = sources.file.size() / length;
    if (there == 0)
      throw Error(ErrorKind::input, "the training text is shorter than one window", options.data,
                  std::to_string(sources.file.size()) + " tokens", "a longer text, or a smaller --context");
    CalibrationWindows drawn =
        calibration_windows(sources.file, tokenizer->bos(), std::min(wanted, there) * length, length, seed);
    for (auto& window : drawn.windows) text.push_back(std::move(window));
  }
  if (text.size() < 2)
    throw Error(ErrorKind::input, "the training text leaves nothing to train on", options.data,
                std::to_string(text.size()) + " windows, one of them held out",
                "a longer text, or a smaller --context");
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
