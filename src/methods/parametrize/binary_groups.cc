// binary_groups as learnable tensors: scales, means and column factors; signs, regions, salient columns and the mask
// stay.
//
// Scales and factors are s0 exp(theta), means m0 + phi times the mean scale of their row and block: theta = phi = 0 at
// the start, so what materialize() shows first is what was stored, to the last bit, and signs stay. Without columns a
// row's block decodes to few different values (8 for two regions, 10 for three, and 0): they are made first, and each
// weight takes one of them by an index; 8 bytes a weight are held. With columns a weight is a product of two looked-up
// factors, twice in salient columns, and 32 bytes a weight are held.
#include "format/binary_groups.h"

#include <array>
#include <cmath>

#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

class BinaryParametrization final : public Parametrization {
 public:
  explicit BinaryParametrization(const Packed& packed)
      : format_(as_binary_groups(packed.format)),
        groups_(format_->unpack_groups(packed)),
        at_(format_->layout(packed.shape.cols)) {
    const int64_t blocks = static_cast<int64_t>(packed.shape.rows * at_.blocks);
    const std::vector<int64_t> scales = {blocks, static_cast<int64_t>(at_.scale_slots)};
    scale_ = Tensor::from(groups_.scale, scales);
    theta_ = Tensor::full(scales, 0).requires_grad();
    if (at_.mean_slots > 0) {
      const std::vector<int64_t> means = {blocks, static_cast<int64_t>(at_.mean_slots)};
      mean_ = Tensor::from(groups_.mean, means);
      phi_ = Tensor::full(means, 0).requires_grad();
      step_ = mean(abs(scale_), 1, true);
    }
    if (at_.column_slots == 0) {
      index_values();
      return;
    }
    const int64_t factors = static_cast<int64_t>(groups_.column.size());
    column_ = Tensor::from(groups_.column, {factors});
    column_theta_ = Tensor::full({factors}, 0).requires_grad();
    if (!groups_.column_two.empty()) {
      column_two_ = Tensor::from(groups_.column_two, {factors});
      column_two_theta_ = Tensor::full({factors}, 0).requires_grad();
    }
    index_factors();
  }

  Tensor materialize() const override {
    const int64_t rows_count = static_cast<int64_t>(groups_.shape.rows),
                  cols = static_cast<int64_t>(groups_.shape.cols);
    const Tensor scale = scale_ * exp(theta_);
    if (at_.column_slots == 0) return reshape(rows(value_table(scale), first_), {rows_count, cols});
    const Tensor table = signed_table(scale), column = column_ * exp(column_theta_);
    const Tensor column_two = column_two_ ? column_two_ * exp(column_two_theta_) : column;
    const Tensor w =
        rows(table, first_) * rows(column, column_first_) + rows(table, second_) * rows(column_two, column_second_);
    return reshape(w, {rows_count, cols});
  }

  Packed encode() const override {
    const NoGrad guard;
    BinaryGroups groups = groups_;
    groups.scale = checked(scale_ * exp(theta_));
    if (mean_) groups.mean = checked(means());
    if (column_) groups.column = checked(column_ * exp(column_theta_));
    if (column_two_) groups.column_two = checked(column_two_ * exp(column_two_theta_));
    return format_->pack(groups);
  }

  std::vector<ParameterGroup> parameters() const override {
    ParameterGroup scales{"scales", {theta_}};
    for (const Tensor& tensor : {phi_, column_theta_, column_two_theta_})
      if (tensor) scales.tensors.push_back(tensor);
    return {scales};
  }

 private:
  Tensor means() const { return mean_ + step_ * phi_; }

  BinarySlots slots(size_t i, size_t j) const {
    return format_->slots(groups_.salient[j] != 0, groups_.region[i * groups_.shape.cols + j]);
  }

  // visit(k, i, j, row and block) for every kept weight.
  template <class Visit>
  void for_each_kept(const Visit& visit) const {
    const size_t cols = groups_.shape.cols;
    for (size_t k = 0; k < groups_.shape.count(); ++k)
      if (groups_.mask.empty() || groups_.mask[k])
        visit(k, k / cols, k % cols, k / cols * at_.blocks + k % cols / at_.block);
  }

  // Columns of a block's values: 0, then m - s and m + s of each region, then the four sums of each salient zone.
  Tensor value_table(const Tensor& scale) const {
    const Tensor mean = mean_ ? means() : Tensor();
    const auto column = [](const Tensor& of, int slot) { return narrow(of, 1, slot, 1); };
    std::vector<Tensor> values = {Tensor::full({scale.size(0), 1}, 0)};
    const auto add = [&](bool salient, int region) {
      const BinarySlots slot = format_->slots(salient, region);
      const Tensor first = column(scale, slot.first);
      for (const bool plus : {false, true}) {
        Tensor value = plus ? first : -first;
        if (mean) value = column(mean, slot.mean) + value;
        if (!salient) {
          values.push_back(value);
          continue;
        }
        const Tensor second = column(scale, slot.second);
        values.push_back(value - second);
        values.push_back(value + second);
      }
    };
    const BinaryGroupsOptions& options = format_->binary_options();
    for (int region = 0; region < options.regions; ++region) add(false, region);
    for (int region = 0; at_.salient && region < (options.residual > 0 ? options.regions : 1); ++region)
      add(true, region);
    return reshape(concat(values, 1), {scale.size(0) * static_cast<int64_t>(values.size())});
  }
  void index_values() {
    const BinaryGroupsOptions& options = format_->binary_options();
    const int64_t regions = options.regions, zones = !at_.salient ? 0 : options.residual > 0 ? regions : 1;
    const int64_t width = 1 + 2 * regions + 4 * zones;
    std::vector<int64_t> index(groups_.shape.count());
    for (size_t k = 0; k < index.size(); ++k)
      index[k] = static_cast<int64_t>(k / groups_.shape.cols * at_.blocks) * width;  // a zero
    for_each_kept([&](size_t k, size_t, size_t j, size_t block) {
      const int64_t region = groups_.region[k], sign = groups_.sign[k], second = groups_.second[k];
      const int64_t value = groups_.salient[j] ? 1 + 2 * regions + 4 * (zones > 1 ? region : 0) + 2 * sign + second
                                               : 1 + 2 * region + sign;
      index[k] = static_cast<int64_t>(block) * width + value;
    });
    first_ = Indices(index);
  }

  // Of a block: 0, then -s and s of each slot.
  Tensor signed_table(const Tensor& scale) const {
    const std::array<Tensor, 3> parts = {Tensor::full({scale.size(0), 1}, 0), -scale, scale};
    return reshape(concat(parts, 1), {scale.size(0) * table_width()});
  }
  int64_t table_width() const { return 1 + 2 * static_cast<int64_t>(at_.scale_slots); }
  void index_factors() {
    const size_t count = groups_.shape.count();
    std::vector<int64_t> first(count, 0), second(count, 0), column_first(count, 0), column_second(count, 0);
    const auto entry = [&](size_t block, int slot, bool plus) {
      return static_cast<int64_t>(block) * table_width() + 1 + slot +
             (plus ? static_cast<int64_t>(at_.scale_slots) : 0);
    };
    for_each_kept([&](size_t k, size_t i, size_t j, size_t block) {
      const BinarySlots slot = slots(i, j);
      first[k] = entry(block, slot.first, groups_.sign[k]);
      column_first[k] = static_cast<int64_t>(j * at_.column_slots) + slot.column_first;
      if (slot.second < 0) return;
      second[k] = entry(block, slot.second, groups_.second[k]);
      column_second[k] = static_cast<int64_t>(j * at_.column_slots) + slot.column_second;
    });
    first_ = Indices(first);
    second_ = Indices(second);
    column_first_ = Indices(column_first);
    column_second_ = Indices(column_second);
  }

  std::vector<float> checked(const Tensor& learned) const {
    std::vector<float> values = learned.values();
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned parameter is not a finite number", format_->label(), "",
                    "a smaller learning rate");
    return values;
  }

  std::shared_ptr<const BinaryGroupsFormat> format_;
  BinaryGroups groups_;  // what is not learned, and where learning starts
  BinaryLayout at_;
  Tensor scale_, mean_, step_, column_, column_two_;
  Tensor theta_, phi_, column_theta_, column_two_theta_;  // what is learned
  Indices first_, second_, column_first_, column_second_;
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_binary_groups(const Packed& packed, const ParametrizationStart&) {
  return std::make_unique<BinaryParametrization>(packed);
}

}  // namespace whit
