"""Your own Keras models, in your own loop: kdkeras only where you want it.

The teacher ends in softmax, as most published models do; `kdkeras.models.logits` takes it off. The
soft loss is a function, so any training loop can call it.

    python examples/own_models.py
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import kdkeras


def data(count):
    """Points of three overlapping clouds, with their labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    centres = np.float32([[0, 0], [2, 0], [1, 2]])
    return (centres[labels] + random.normal(0, 0.8, (count, 2))).astype("float32"), labels


def main(epochs=20):
    """Returns the accuracy of the student, and how often it agrees with the teacher."""
    keras.utils.set_random_seed(0)
    x, y = data(600)
    teacher = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    teacher.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    teacher.fit(x, y, epochs=epochs, verbose=0)
    teacher = kdkeras.models.logits(teacher)

    student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    optimizer = keras.optimizers.Adam(0.05)
    hard_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    alpha, temperature = 0.1, 4.0

    @tf.function
    def step(x, y):
        teacher_logits = teacher(x, training=False)
        with tf.GradientTape() as tape:
            logits = student(x, training=True)
            soft = kdkeras.losses.soft_target_divergence(teacher_logits, logits, temperature)
            loss = alpha * hard_loss(y, logits) + (1 - alpha) * tf.reduce_mean(soft)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables, strict=True))
        return loss

    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(600, seed=0).batch(50)
    for epoch in range(epochs):
        losses = [float(step(*batch)) for batch in batches]
        if epoch % 5 == 0:
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}")

    found = kdkeras.evaluate(student, (x, y), teacher=teacher)
    print(f"accuracy {found['accuracy']:.3f}, agreement with the teacher {found['agreement']:.3f}")
    return found


if __name__ == "__main__":
    sys.exit(not main())
