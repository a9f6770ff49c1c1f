// Compressing any model of tests/data: what the tests of all of them share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "cli/convert.h"
#include "logits.h"
#include "model/spec/basis.h"
#include "model/torch/executor.h"
#include "pipeline/compress.h"
#include "pipeline/toys.h"
#include "pipeline/tune.h"
#include "reference_models.h"
#include "runtime/runtime.h"

namespace whit::tests {

inline const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

inline Matrix logits(const std::shared_ptr<const Scorer>& scorer) {
  const auto session = scorer->open(24);
  Matrix rows(24, scorer->spec().vocabulary);
  std::vector<int32_t> ids;
  for (int i = 0; i < 24; ++i) ids.push_back(3 + i * 17 % 380);
  session->feed(ids, 0, [&](size_t position, std::span<const float> row) {
    std::copy(row.begin(), row.end(), rows.row(position));
  });
  return rows;
}

// In units of the deviation of b.
inline double difference(const Matrix& a, const Matrix& b) {
  return greatest_difference(a.data, b.data) / standard_deviation(b.data);
}

// What the residual stream of such a model does not allow (model/spec/basis.h).
inline bool merges(const ModelSpec& spec) {
  return spec.norm == NormKind::rms && !spec.norm_after && !spec.branch_norms && !spec.has_bias("attn_output") &&
         !spec.has_bias("ffn_down") && !spec.has_bias("attn_v");
}

// Jobs on one model, `model_`, which SetUp of the test gives.
class ModelJobs : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", toy_text(7, 3000), false);
  }
  CompressRequest request(Recipe recipe, const std::string& name) const {
    CompressRequest result;
    result.model = model_;
    result.output = folder_ / name;
    result.recipe = std::move(recipe);
    result.recipe.calibrate.data = (folder_ / "text.txt").string();
    result.recipe.calibrate.tokens = 256;
    result.recipe.calibrate.context = 32;
    result.cache = folder_ / "cache";
    result.threads = 1;
    result.force = true;
    return result;
  }
  static Json run(const CompressRequest& request) {
    SilentProgress silent;
    return compress(request, silent);
  }
  // Made as planned, read again, and the same logits by both executors.
  void expect_whole(const CompressRequest& job) const {
    const Json result = run(job);
    EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]);
    const ModelPtr made = load_model(job.output);
    EXPECT_EQ(made->integrity, "ok");
    ThreadPool pool(1);
    const Matrix torch = logits(make_torch_scorer(made));
    EXPECT_LT(difference(logits(make_runtime(made, pool)), torch), 1e-4);
    // The way back: an ordinary file and a folder say the same.
    for (const char* output : {"plain.gguf", "plain"}) {
      SCOPED_TRACE(output);
      ConvertOptions options;
      options.output = folder_ / output;
      options.type = "F32";
      SilentProgress silent;
      const ModelPtr plain = turn_back_stream(made);
      output == std::string("plain") ? write_folder(*plain, options, pool, silent)
                                     : write_gguf_model(*plain, options, pool, silent);
      const ModelPtr again = load_model(options.output);
      EXPECT_EQ(again->spec.stream_rotation, nullptr);
      EXPECT_LT(difference(logits(make_runtime(again, pool)), torch), 1e-4);
      std::filesystem::remove_all(options.output);
    }
  }
  void expect_presets(const std::vector<std::string>& names) const {
    const ModelSpec spec = load_model(model_)->spec;
    for (const std::string& name : names) {
      SCOPED_TRACE(name);
      const std::vector<UnitSpec> units = units_of(spec);
      const bool blocks = std::all_of(units.begin(), units.end(), [](const UnitSpec& unit) { return unit.cols % 32 == 0; });
      if ((name.starts_with("merged") && !merges(spec)) || (!blocks && (name == "q4_0" || name == "q8_0"))) {
        try {
          run(request(preset_recipe(name), "out.gguf"));
          ADD_FAILURE() << "was made";
        } catch (const Error& error) {
          EXPECT_TRUE(error.kind() == ErrorKind::usage || error.kind() == ErrorKind::input) << error.what();
        }
        continue;
      }
      try {
        expect_whole(request(preset_recipe(name), "out.gguf"));
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    }
  }

  std::filesystem::path model_;
};

// All but "fit", which needs a size.
inline std::vector<std::string> every_preset() {
  std::vector<std::string> names;
  for (const Preset& preset : presets())
    if (preset.name != "fit") names.push_back(preset.name);
  return names;
}

class Models : public ModelJobs, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    ModelJobs::SetUp();
    model_ = kData / GetParam();
  }
};

}  // namespace whit::tests
