#!/usr/bin/env bash
# Draws the figures of results/ again, from its CSV files: all but each run's own (curve.png and
# diagnosis.png) and gradient_error/. `results/figures.sh figure2`: those that have this in their name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh
python=${MAAC_VENV:-.venv}/bin/python
only=${1:-}
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

draw() { # FIGURE VIEW ARGUMENTS...; the view of maac_tf.plot: "" (steps), _hours or _means
  [[ $1 == *$only* ]] || return 0
  "$python" -m maac_tf.plot "${@:3}" --out="$folder/figure" >/dev/null
  cp "$folder/figure$2.png" "results/$1.png"
  echo "results/$1.png"
}

average() { # RUN NAME: its evaluations of another average of the policy, as a run of that name
  local run=$folder/$(basename "$(dirname "$1")")/$2-${1##*-}
  mkdir -p "$run"
  awk -F, -v name="$2" '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == name "/return") column = i
              print "env_steps,seconds/total,eval/return"; next }
    { print $1 ",0," $column }' "$1/averages.csv" \
    >"$run/metrics.csv"
}

cheetah=results/half_cheetah_v5
hopper=results/hopper_v5
walker=results/walker2d_v5
ant=results/ant_v5
theirs=results/half_cheetah # the paper's

draw shipped "" MAAC={$cheetah/width_128,$hopper/width_128_updates_2,$walker/without_soft_returns}-{0,1,2} \
  --env_steps=20000
draw shipped_longer "" "as shipped"=$walker/shipped-{0,1,2} "as shipped"=$ant/kl_penalty_1-2 \
  "as shipped before"=$ant/{episodes_of_250-0,shipped-1} --env_steps=50000

draw ant_v5/kl_penalty "" "as shipped"=$ant/kl_penalty_1-{0,1,2} \
  "without the price on divergence"=$ant/symmetries_random_2000-1 \
  "as shipped before"=$ant/{shipped-1,episodes_of_250-0,episodes_of_250-2} --env_steps=12000

draw hopper_v5/target_entropy "" "target -2"=$hopper/target_entropy_2-{0,1,2} \
  "target -3, as shipped"=$hopper/random_2000{-{0,1,2},_alone-{0,1},_again_from_17250-2} --env_steps=40000

averaged=$folder/hopper_v5
for run in $hopper/{decay_9995-{0,2},long_average-1}; do
  for name in policy 0.998 "10 %"; do average $run "$name"; done
done
draw hopper_v5/policy_averages "" "the policy itself"=$averaged/policy-{0,1,2} \
  "looks back on 500 updates"=$averaged/0.998-{0,1,2} "on 10 % of all"="$averaged/10 %"-{0,1,2} \
  "on 2,000 (seed 1: a ninth first)"=$hopper/{decay_9995-{0,2},long_average-1}

draw ant_v5/discount_998 "" "as shipped, discount 0.995"=$ant/kl_penalty_1-2 \
  "discount 0.998 from 30,500 on"=$ant/kl_penalty_25_discount_998_from_30500-2 --env_steps=50000

draw half_cheetah_v5/widths "" "128 units, shipped"=$cheetah/width_128-{0,1,2} \
  "192"=$cheetah/width_192-{0,1,2} "128, models 256"=$cheetah/width_128_models_256-{0,1,2} \
  "256"=$cheetah/{task_coordinates-{0,1,2},shipped-0} --env_steps=20000

draw hopper_v5/widths "" "128 units, two updates, shipped"=$hopper/width_128_updates_2-{0,1,2} \
  "128, one"=$hopper/width_128-{0,1,2} "256, one, shipped before"=$hopper/shipped_alone-{0,1,2} \
  --env_steps=30000

draw half_cheetah_v5/two_layers "" "two layers"=$cheetah/two_layers-{0,1,2} \
  "three, shipped"=$cheetah/{task_coordinates-{0,1,2},shipped-0} --env_steps=20000

draw half_cheetah_v5/policy_delay "" "at every other update"=$cheetah/policy_delay_2-{0,1,2} \
  "at each, shipped"=$cheetah/{task_coordinates-{0,1,2},shipped-0} --env_steps=20000

draw half_cheetah_v5/kl_penalty "" "price 1.0"=$cheetah/kl_penalty_1-0 "price 0.2"=$cheetah/kl_penalty_02-0 \
  "price 0.05"=$cheetah/kl_penalty_005-{0,1,2} "as shipped, no price"=$cheetah/task_coordinates-{0,1,2} \
  --env_steps=20000

# Which ingredient matters
draw ingredients _means shipped=$cheetah/task_coordinates-{0,1,2} shipped=$hopper/random_2000-{0,1,2} \
  {$cheetah,$hopper}/without_{path_starts,shared_rollout,initial_updates,bounded_values}-0 \
  {$cheetah,$hopper}/updates_2-0 $hopper/updates_{2-1,2-2,4-0} {$cheetah,$hopper}/without_layer_norm-0 \
  $cheetah/without_{layer_norm-{1,2},critic_ensemble-{0,1,2},observation_normalization-0} $cheetah/critics_3-{0,1,2} \
  $hopper/without_{observation_normalization-{0,1,2},critic_ensemble-0} $cheetah/updates_4-0 \
  $hopper/horizon_{0,1,3,8}-0 \
  {horizon_0=$cheetah/coordinates_horizon_0,horizon_1=$cheetah/coordinates_horizon_1}-0 \
  {horizon_3=$cheetah/coordinates_horizon_3,horizon_8=$cheetah/coordinates_horizon_8}-0 --env_steps=20000
draw hopper_v5/updates_pairs "" "one update (shipped)"=$hopper/random_2000-{0,1,2} \
  "two updates"=$hopper/updates_2-{0,1,2} "four updates"=$hopper/updates_4-0 --env_steps=20000
draw compare/half_cheetah_v5 _means results/compare/half_cheetah_v5
draw hopper_v5/ingredients "" shipped=$hopper/random_2000-0 \
  $hopper/without_{initial_updates,observation_normalization,path_starts}-0 \
  $hopper/without_{layer_norm,shared_rollout,bounded_values,critic_ensemble}-0
draw hopper_v5/observation_normalization_pairs "" shipped=$hopper/random_2000-{0,1,2} \
  $hopper/without_observation_normalization-{0,1,2} --env_steps=20000
draw half_cheetah_v5/critics_pairs "" "five critics"=$cheetah/task_coordinates-{0,1,2} \
  "three critics"=$cheetah/critics_3-{0,1,2} "two critics"=$cheetah/without_critic_ensemble-{0,1,2}
draw half_cheetah_v5/horizons "" {horizon_0=$cheetah/coordinates_horizon_0,horizon_1=$cheetah/coordinates_horizon_1}-0 \
  {horizon_3=$cheetah/coordinates_horizon_3,horizon_5=$cheetah/task_coordinates,horizon_8=$cheetah/coordinates_horizon_8}-0 \
  --env_steps=12000
draw half_cheetah_v5/horizons_plain_coordinates "" $cheetah/horizon_{0,1,3}-0 \
  horizon_5=$cheetah/without_soft_returns-0 $cheetah/horizon_8-0 --env_steps=12000
draw hopper_v5/horizons "" $hopper/horizon_{0,1,3}-0 horizon_5=$hopper/random_2000-0 $hopper/horizon_8-0
draw half_cheetah_v5/task_coordinates "" "in everything"=$cheetah/task_coordinates-{0,1,2} \
  "in the models"=$cheetah/pitch-{0,1,2} "in nothing"=$cheetah/without_soft_returns-{0,1} \
  "in nothing"=results/compare/half_cheetah_v5/without_soft_returns-2
draw coordinates "" "in the models"={$cheetah/pitch-{0,1,2},$ant/torso_frame-0} \
  "in nothing"=$cheetah/without_soft_returns-{0,1} \
  "in nothing"=results/compare/half_cheetah_v5/without_soft_returns-2 \
  "in nothing"=$ant/{maac-{0,1},without_soft_returns-0}
draw hopper_v5/random_2000_pairs "" "2,000 random steps"=$hopper/random_2000-{0,1,2} \
  "5,000"=$hopper/without_soft_returns-{0,1,2} --env_steps=20000
draw hopper_v5/soft_returns_pairs "" "without soft returns"=$hopper/without_soft_returns-{0,1,2} \
  "with"=$hopper/episodes_of_500-{0,1,2}
draw walker2d_v5/plain_values_pairs "" $walker/plain_values-{0,1,2} \
  "soft values"=$walker/without_soft_returns-{0,1,2} --env_steps=20000

# Task by task
draw walker2d_v5/pairs "" "five critics"=$walker/maac-{0,1,2} \
  "two critics"=$walker/without_critic_ensemble-{0,1,2} --env_steps=20000
draw walker2d_v5/equal_weights_pair "" $walker/equal_weights-0 "without them"=$walker/random_2000-0
draw walker2d_v5/weight_decay_pairs "" $walker/weight_decay_1-{1,2} \
  weight_decay_0.1=$walker/without_soft_returns-{1,2}
for view in "" _means; do
  draw ant_v5/episodes$view "$view" "250 steps"=$ant/episodes_of_250-{0,1,2} \
    "whole"=$ant/{task_coordinates-0,whole_episodes-{1,2}}
done
draw paper_tasks "" "shipped now"=results/half_cheetah/width_128-{0,1,2} \
  "shipped then"=results/{half_cheetah,hopper}/shipped-0 \
  paper.gin=results/{half_cheetah,hopper}/paper-0

# The paper's experiments
draw figure2_half_cheetah "" {MAAC=$theirs/shipped,MBPO=$theirs/shipped_mbpo}-0 \
  {STEVE=$theirs/shipped_steve,SAC=$theirs/shipped_sac}-0 --env_steps=20000
draw figure2_half_cheetah_paper "" {MAAC=$theirs/paper,MBPO=$theirs/paper_mbpo}-0 \
  {STEVE=$theirs/paper_steve,SAC=$theirs/paper_sac}-0 --env_steps=20000
for view in "" _hours; do
  draw figure2_hopper_v5$view "$view" MAAC=$hopper/random_2000-{0,1,2} \
    {MBPO=$hopper/shipped_mbpo,STEVE=$hopper/shipped_steve,SAC=$hopper/shipped_sac}-0 --env_steps=20000
done
draw figure4_half_cheetah "" MAAC=$theirs/paper-0 "without STEVE"=$theirs/paper_no_steve-0 \
  "single sample"=$theirs/paper_single_sample-0 horizon_0=$theirs/paper_h0-0 --env_steps=15000
draw sac/curves "" results/sac
