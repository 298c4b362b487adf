"""The folder that `nnUNet_extTrainer` names: nnU-Net imports what lies in it by file name."""
