#!/bin/sh
# How the embedded bundle was made: distil the backbone, train the captioner, export. Each step goes on where it stopped.
#
#     examples/flickr8k_small.sh DATA WORK
#
# DATA holds flickr8k/ (images, captions.token.txt, splits), unlabeled/, photos/ and teacher/mobilenet_v2.keras;
# WORK gets the run folders and the bundle. About an hour and a half on two idle cores. Flickr8k is for research and
# non-commercial use only.
set -eu
data=$1 work=$2
batchcap=${BATCHCAP:-batchcap}
f8k=$data/flickr8k

nice "$batchcap" distill "$f8k/images" "$data/unlabeled" -o "$work/distilled" \
    --names "$f8k/train.txt" --names "$f8k/unassigned.txt" --held-out "$f8k/images" --held-out-names "$f8k/dev.txt" \
    --teacher "$data/teacher/mobilenet_v2.keras" --layer re_lu_69 --views 8 --extra-views 3 --epochs 7

nice "$batchcap" train "$f8k/images" --captions "$f8k/captions.token.txt" \
    --train-split "$f8k/train.txt" --dev-split "$f8k/dev.txt" -o "$work/captioner" \
    --weights "$work/distilled/backbone.weights.h5" --tied --views 4 --epochs 14 --patience 3 --final-rate 0.02 \
    --label-smoothing 0.1

# Beam and penalty: by the rule in benchmarks/decoding_sweep.py, from benchmarks/results/decoding-sweep-flickr8k-small.json.
"$batchcap" export "$work/captioner" -o "$work/flickr8k-small" --store int8 --also-score "$data/photos" \
    --beam-size 4 --length-penalty 0.8 --text english \
    --data "Flickr8k (Hodosh et al. 2013), 6,000 training photos with five captions each. The backbone was distilled, from a \
random start, from the features of a MobileNetV2 (ImageNet) on Flickr8k photos outside dev and test and on 11,732 other photos \
without captions." \
    --terms "The weights learnt from Flickr8k, which is for research and non-commercial use; so are they. The code around them \
is Apache-2.0."
