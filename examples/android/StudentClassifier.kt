package kdkeras.example

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.Rect
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipException
import java.util.zip.ZipFile
import kotlin.math.min
import kotlin.math.roundToInt
import org.tensorflow.lite.DataType
import org.tensorflow.lite.InterpreterApi

private const val SIGNATURE = "serving_default"

/**
 * Classifies pictures with a student that kdkeras exported, whatever its precision.
 *
 * Make one, keep it, and [close] it at the end. It serves one thread at a time.
 *
 * @param asset The file in `src/main/assets`.
 */
class StudentClassifier(context: Context, asset: String = "student.tflite") : Closeable {
    private val file = copied(context, asset)
    private val interpreter = InterpreterApi.create(file, InterpreterApi.Options())
    private val input = interpreter.getInputTensorFromSignature("image", SIGNATURE)
    private val output = interpreter.getOutputTensorFromSignature("probabilities", SIGNATURE)
    private val labels = labelsIn(file) ?: List(output.shape()[1]) { "class $it" }

    /** The classes' names and probabilities, the most probable first. The picture is upright. */
    fun classify(picture: Bitmap): List<Pair<String, Float>> {
        val answers = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        interpreter.runSignature(
            mapOf<String, Any>("image" to pixels(picture)),
            mapOf<String, Any>("probabilities" to answers),
            SIGNATURE,
        )
        answers.rewind()
        return labels.map { it to probability(answers) }.sortedByDescending { it.second }
    }

    override fun close() = interpreter.close()

    private fun pixels(picture: Bitmap): ByteBuffer {
        val (_, height, width, channels) = input.shape()
        val colours = IntArray(height * width)
        resized(cropped(picture, height, width), height, width)
            .getPixels(colours, 0, width, 0, 0, width, height)
        val buffer = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder())
        for (colour in colours) {
            val rgb = intArrayOf(Color.red(colour), Color.green(colour), Color.blue(colour))
            val levels = if (channels == 1) intArrayOf(grey(rgb)) else rgb
            for (level in levels) put(buffer, level)
        }
        buffer.rewind()
        return buffer
    }

    /** A level 0..255 as the input takes it. */
    private fun put(buffer: ByteBuffer, level: Int) {
        when (input.dataType()) {
            DataType.FLOAT32 -> buffer.putFloat(level / 255f)
            DataType.UINT8 -> buffer.put(level.toByte())
            DataType.INT8 -> buffer.put((level - 128).toByte())
            else -> throw IllegalStateException("The input is ${input.dataType()}.")
        }
    }

    private fun probability(answers: ByteBuffer): Float {
        val scale = output.quantizationParams().scale
        val zeroPoint = output.quantizationParams().zeroPoint
        return when (output.dataType()) {
            DataType.FLOAT32 -> answers.getFloat()
            DataType.UINT8 -> scale * ((answers.get().toInt() and 0xFF) - zeroPoint)
            DataType.INT8 -> scale * (answers.get().toInt() - zeroPoint)
            else -> throw IllegalStateException("The output is ${output.dataType()}.")
        }
    }
}

/** The asset as a file of its own, which both the interpreter and [ZipFile] can open. */
private fun copied(context: Context, asset: String): File {
    val file = File(context.cacheDir, File(asset).name)
    context.assets.open(asset).use { from -> file.outputStream().use { from.copyTo(it) } }
    return file
}

/** The class names, if there are any: a zip archive follows the network in the same file. */
private fun labelsIn(file: File): List<String>? =
    try {
        ZipFile(file).use { zip ->
            zip.getEntry("labels.txt")?.let { zip.getInputStream(it).bufferedReader().readLines() }
        }
    } catch (noArchive: ZipException) {
        null
    }

/** The largest centred part of these proportions, in memory that pixels can be read from. */
private fun cropped(picture: Bitmap, height: Int, width: Int): Bitmap {
    val argb = Bitmap.Config.ARGB_8888
    val readable = if (picture.config == argb) picture else picture.copy(argb, false)
    val scale = min(readable.width.toFloat() / width, readable.height.toFloat() / height)
    val w = (scale * width).roundToInt()
    val h = (scale * height).roundToInt()
    return Bitmap.createBitmap(readable, (readable.width - w) / 2, (readable.height - h) / 2, w, h)
}

/** Halved while it is twice too large, so that no pixel is skipped; then bilinear, over white. */
private fun resized(picture: Bitmap, height: Int, width: Int): Bitmap {
    var large = picture
    while (large.width >= 2 * width && large.height >= 2 * height) {
        large = Bitmap.createScaledBitmap(large, large.width / 2, large.height / 2, true)
    }
    val small = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(small)
    canvas.drawColor(Color.WHITE)
    canvas.drawBitmap(large, null, Rect(0, 0, width, height), Paint(Paint.FILTER_BITMAP_FLAG))
    return small
}

private fun grey(rgb: IntArray) = (0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]).roundToInt()
