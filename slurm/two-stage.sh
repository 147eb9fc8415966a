#!/usr/bin/env bash
# Detect, then segment: trains a detector and a crop segmenter side by side and, when both are done, tunes, tests and
# predicts with the two as one model. Run it directly, on the login node.
#   slurm/two-stage.sh [options of sbatch --] [options of all] [--detector options] [--segmenter options] [--test options]
#   slurm/two-stage.sh --time=12:00:00 -- --data.init_args.num_workers 7 --detector --trainer.max_epochs 30
# Other configs by DETECTOR, SEGMENTER and TWO_STAGE; the three runs' names begin with NAME. See docs/cluster.md.
set -euo pipefail
cd "$(dirname "$0")/.."
source slurm/common.sh
NAME=${NAME:-r1-two-stage}
all=() detector=() segmenter=() test=()
split "$@"
declare -n part=all
for argument in "${ARGUMENTS[@]}"; do
  case $argument in
    --detector) declare -n part=detector ;;
    --segmenter) declare -n part=segmenter ;;
    --test) declare -n part=test ;;
    *) part+=("$argument") ;;
  esac
done

detector_job=$(slurm/fit.sbatch --job-name=detector "${OPTIONS[@]}" -- \
  --config "${DETECTOR:-configs/reference/r1-detector.yaml}" "${all[@]}" "${detector[@]}" --name "$NAME-detector")
segmenter_job=$(slurm/fit.sbatch --job-name=segmenter "${OPTIONS[@]}" -- \
  --config "${SEGMENTER:-configs/reference/r1-crop-segmenter.yaml}" "${all[@]}" "${segmenter[@]}" --name "$NAME-segmenter")
# Cancelled if one of the two fails; otherwise it would wait for ever.
test_job=$(COMMANDS=${COMMANDS:-tune test predict} slurm/test.sbatch --job-name=two-stage "${OPTIONS[@]}" --nodes=1 \
  --dependency="afterok:$detector_job:$segmenter_job" --kill-on-invalid-dep=yes -- \
  --config "${TWO_STAGE:-configs/reference/r1-two-stage.yaml}" "${all[@]}" "${test[@]}" --name "$NAME" \
  --model.init_args.detector_checkpoint "$RUNS_DIR/$NAME-detector/job_$detector_job" \
  --model.init_args.segmenter_checkpoint "$RUNS_DIR/$NAME-segmenter/job_$segmenter_job")
echo "detector $detector_job, segmenter $segmenter_job, then two-stage $test_job"
